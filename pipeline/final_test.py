"""The test at the end of a run: of which checkpoint, and on the backend at hand, whoever wrote it."""

from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backends import Backend, Device
from pipeline.checkpoints import FOLDER, Checkpoint, checkpoint_of_step, checkpoints_of
from pipeline.crossing import brought_over
from pipeline.recorder import Recorder
from pipeline.world import World

if TYPE_CHECKING:
    from pipeline.experiment import Experiment


def best_checkpoint(recorder: Recorder, folder: Path) -> dict[str, Any]:
    """What was best, and the checkpoint that holds it; the last one where nothing was best."""
    best = recorder.best or {"metric": None, "value": None, "step": recorder.step}
    checkpoint = checkpoint_of_step(folder, best["step"])
    if checkpoint is None:  # somebody deleted it since
        checkpoint = checkpoints_of(folder)[0]
        recorder.progress.message(f"the best checkpoint is gone; testing {checkpoint.path}")
    return best | {"checkpoint": str(checkpoint.path)}


def tested(
    backend: Backend,
    experiment: "Experiment",
    device: Device,
    chosen: Checkpoint,
    world: World,
) -> tuple[Mapping[str, float], np.ndarray | None]:
    """What `Backend.test` gives of the weights in a checkpoint, whatever backend wrote it."""
    config = experiment.config
    if chosen.backend == config.backend.name:
        return backend.test(experiment, device, chosen)
    # torch keeps a best and a last one of the same step.
    here = brought_over([chosen], "checkpoint", config, experiment.folder, device, world)[0]
    found = backend.test(experiment, device, here)
    device.wait_for_all()
    if world.first:
        rmtree(experiment.folder / FOLDER)  # it has served: the checkpoint is where it was
    return found
