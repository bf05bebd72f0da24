"""The inference of one batch, as an evaluation does it, to be timed."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from flax_impl.data.batches import EvalBatches
from flax_impl.device import Device
from flax_impl.training.eval_step import make_eval_step
from flax_impl.training.step import StepContext
from flax_impl.training.train_state import TrainState
from pipeline.run.experiment import Experiment


def make_inference(
    experiment: Experiment, device: Device, state: TrainState
) -> Callable[[], Mapping[str, float]]:
    """Make a function that prepares the next batch of training samples and evaluates it.

    It waits for the result, and returns the sums over the batch.
    """
    plan = experiment.plan
    step = make_eval_step(StepContext(experiment.config, plan, device))
    batches = EvalBatches(plan.data.train, plan, device, plan.batch_size)

    def whole() -> Iterator[tuple]:
        while True:  # the last batch of a pass may be padded
            yield from islice(iter(batches), len(plan.data.train) // batches.batch_size)

    following = whole()

    def infer() -> Mapping[str, float]:
        values, _ = step(state, *next(following))
        return dict(zip(plan.data.sums, device.read([values])[0].tolist(), strict=True))

    return infer
