"""The inference of one batch, as an evaluation does it, to be timed."""

from collections.abc import Callable, Iterator, Mapping
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
) -> Callable[[], Mapping[str, float]]:
    """Make a function that prepares the next batch of training samples and evaluates it.

    It waits for the result, and returns the sums over the batch.
    """
    plan = experiment.plan
    module.configure_model()
    module.to(device.torch_device).eval()
    computing = trainer_on(device, module).precision_plugin.val_step_context
    batches = EvalBatches(plan.data.train, plan, device, plan.batch_size)

    def whole() -> Iterator[Batch]:
        while True:  # the last batch of a pass may be smaller
            yield from islice(iter(batches), len(plan.data.train) // batches.batch_size)

    following = whole()

    def infer() -> Mapping[str, float]:
        with torch.inference_mode(), computing():
            module.validation_step(next(following), 0)
            return module.evaluation_sums()

    return infer
