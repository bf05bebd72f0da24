"""What the core asks of this backend."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch

from lightning_impl.checkpoints import read_checkpoint
from lightning_impl.crossing import pack, unpack
from lightning_impl.device import Device, prepare
from lightning_impl.loop import evaluate
from lightning_impl.loop import train as train_loop
from lightning_impl.models import build_model
from lightning_impl.norms import synchronise
from lightning_impl.observing import WatchedModule
from lightning_impl.state import from_portable, initial_state
from lightning_impl.step import TrainingModule
from pipeline.checkpoints import Checkpoint, first_readable
from pipeline.experiment import Experiment
from pipeline.parcels import Parcel
from pipeline.portable import PortableState

__all__ = ["adopt", "export", "prepare", "test", "train", "versions"]

# Its advice (more loader workers, tensor cores) is about choices that are made here on purpose.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")


def train(experiment: Experiment, device: Device) -> None:
    """Train to the end of the timetable, from scratch or from a checkpoint.

    Raises:
        UserError: no checkpoint to resume from fits or can be read.
        Interrupted: somebody asked to stop, and the state is saved.
        Diverged: the loss is no number.
    """
    module = build(experiment, device)
    resume = None
    if experiment.resume:
        read = partial(read_checkpoint, template=module)
        resume, content = first_readable(
            experiment.resume, read, experiment.recorder.progress.message
        )
        # Lightning loads it once more; but what a run starts from is told before that.
        module.load_state_dict(content["state_dict"], strict=True)
        experiment.recorder.restore(resume.step, content["recorder"])
    train_loop(experiment, device, module, resume)


def test(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[Mapping[str, float], np.ndarray | None]:
    """Sums over the test set of the weights in a checkpoint, and what they say of each sample.

    Raises:
        UserError: the checkpoint is broken or of another model.
    """
    module = build(experiment, device)
    read = partial(read_checkpoint, template=module)
    _, content = first_readable([checkpoint], read, lambda message: None, "checkpoint")
    module.load_state_dict(content["state_dict"], strict=True)
    return evaluate(experiment, device, module)


def export(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[PortableState, dict[str, Any]]:
    """A checkpoint's state, and what its recorder remembers, for another backend or a file.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
        UserError: it is of another model.
    """
    return pack(checkpoint, build(experiment, device))


def adopt(experiment: Experiment, device: Device, parcels: Sequence[Parcel]) -> None:
    """Write a run that comes from elsewhere as checkpoints in the experiment's folder.

    Args:
        experiment: that will go on with it.
        device: where.
        parcels: the run at one or more steps, in their order.

    Raises:
        UserError: it is of another model.
    """
    unpack(parcels, experiment, device, build(experiment, device))


def versions() -> dict[str, str]:
    """The versions of the libraries that decide the result."""
    return {"torch": torch.__version__, "lightning": lightning.__version__}


def build(experiment: Experiment, device: Device) -> TrainingModule:
    """The module with its weights at step 0, in the run's number type."""
    config, data = experiment.config, experiment.plan.data
    model = build_model(config.model, data.train.inputs.shape[1:], data.outputs)
    if device.devices > 1 and config.accelerator.sync_batchnorm:
        synchronise(model, device.kind)
    observer = experiment.recorder.observer
    from_portable(observer.begins(initial_state(model, config)), model.to(device.dtype))
    kind = WatchedModule if observer.watching else TrainingModule
    return kind(model, config, experiment.plan, experiment.recorder, device)
