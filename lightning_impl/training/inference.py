"""The inference of one batch, as an evaluation does it, to be timed."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch

from lightning_impl.data.batches import EvalBatches
from lightning_impl.data.samples import Batch
from lightning_impl.device import Device
from lightning_impl.training.loop import trainer_on
from lightning_impl.training.step import TrainingModule
from pipeline.run.experiment import Experiment


def make_inference(
    experiment: Experiment, device: Device, module: TrainingModule
) -> Callable[[], None]:
    """Make a function that prepares a batch of training samples, evaluates it, and waits for the result."""
    plan = experiment.plan
    module.configure_model()
    module.to(device.torch_device).eval()
    computing = trainer_on(device, module).precision_plugin.val_step_context
    batches = EvalBatches(plan.data.train, plan, device, plan.batch_size)

    def whole() -> Iterator[Batch]:
        while True:  # the last batch of a pass may be smaller
            yield from islice(iter(batches), len(plan.data.train) // batches.batch_size)

    following = whole()

    def infer() -> None:
        with torch.inference_mode(), computing():
            module.validation_step(next(following), 0)
            module.evaluation_sums()

    return infer
