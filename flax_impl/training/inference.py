"""The inference of one batch, as an evaluation does it, to be timed."""

from collections.abc import Callable, Iterator
from itertools import islice

from flax_impl.data.batches import EvalBatches
from flax_impl.device import Device
from flax_impl.training.step import StepContext, TrainState, make_eval_step
from pipeline.run.experiment import Experiment


def make_inference(experiment: Experiment, device: Device, state: TrainState) -> Callable[[], None]:
    """Make a function that prepares a batch of training samples, evaluates it, and waits for the result."""
    plan = experiment.plan
    step = make_eval_step(StepContext(experiment.config, plan, device))
    batches = EvalBatches(plan.data.train, plan, device, plan.batch_size)

    def whole() -> Iterator[tuple]:
        while True:  # the last batch of a pass may be padded
            yield from islice(iter(batches), len(plan.data.train) // batches.batch_size)

    following = whole()

    def infer() -> None:
        values, _ = step(state, *next(following))
        device.read([values])

    return infer
