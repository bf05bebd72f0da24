"""Evaluation of checkpoints of runs that are alike, with one module."""

from functools import partial

from lightning_impl.checkpoints import read_checkpoint
from lightning_impl.device import Device
from lightning_impl.training.loop import evaluate
from lightning_impl.training.step import TrainingModule
from pipeline.run.backends import Test, Tested
from pipeline.run.experiment import Experiment
from pipeline.storage.checkpoints import Checkpoint, first_readable


def make_test(experiment: Experiment, device: Device, module: TrainingModule) -> Test:
    """Make a function that tests checkpoints of runs that are alike; `module` gives their shapes."""
    read = partial(read_checkpoint, template=module)

    def test(checkpoint: Checkpoint) -> Tested:
        _, content = first_readable([checkpoint], read, lambda message: None, "checkpoint")
        module.load_state_dict(content["state_dict"], strict=True)
        return evaluate(experiment, device, module)

    return test
