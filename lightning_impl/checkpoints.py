"""Checkpoints as Lightning writes them: files of torch.save, whole or not there at all."""

from collections.abc import Mapping
from typing import Any
from zipfile import ZipFile

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_impl.step import TrainingModule
from pipeline.checkpoints import BrokenCheckpoint, Checkpoint, check_shapes
from pipeline.errors import Interrupted
from pipeline.recorder import Recorder

KEPT = 2  # newest checkpoints: should one turn out broken, there is one before it


class _AtEvaluation(ModelCheckpoint):
    """Saves after evaluations only, so it has nothing to ask itself after every step."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def keep(self, trainer: Trainer) -> None:
        """Save now, off the beat of the evaluations."""
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class BestCheckpoint(_AtEvaluation):
    """Keeps the best checkpoint; what is best, the recorder decides.

    Args:
        folder: for the files.
        recorder: that has just judged the evaluation.
    """

    def __init__(self, folder: str, recorder: Recorder) -> None:
        super().__init__(
            folder, "best-{step:06d}", monitor="step", mode="max", auto_insert_metric_name=False
        )
        self.recorder = recorder

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        """Whether this step's evaluation was the best so far."""
        best = self.recorder.best
        return best is not None and best["step"] == trainer.global_step

    @property
    def state_key(self) -> str:
        """Its own name in a checkpoint: the two callbacks would share Lightning's."""
        return "BestCheckpoint"


class Checkpoints(_AtEvaluation):
    """Keeps the newest checkpoints, and ends the run at one where it is asked to stop.

    Args:
        folder: for the files.
        recorder: knows whether somebody asked.
    """

    def __init__(self, folder: str, recorder: Recorder) -> None:
        super().__init__(
            folder,
            "last-{step:06d}",
            monitor="step",
            mode="max",
            save_top_k=KEPT,
            auto_insert_metric_name=False,
        )
        self.recorder = recorder

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Keep the evaluated state; this callback is Lightning's last."""
        super().on_validation_end(trainer, module)
        self.stop_if_asked(trainer, saved=True)

    def stop_if_asked(self, trainer: Trainer, saved: bool = False) -> None:
        """Leave the loop, with a checkpoint of this step, if somebody asked to stop.

        Raises:
            Interrupted: the state is saved.
        """
        step = trainer.global_step
        exit_code = self.recorder.interrupted(step)
        if exit_code is None or step == self.recorder.timetable.total:
            return
        if not saved:
            self.keep(trainer)
        raise Interrupted(step, exit_code)

    @property
    def state_key(self) -> str:
        """Its own name in a checkpoint: the two callbacks would share Lightning's."""
        return "LastCheckpoints"  # written into every checkpoint, so it stays


def read_checkpoint(checkpoint: Checkpoint, template: TrainingModule) -> dict[str, Any]:
    """A checkpoint's content: the state, on the CPU, and the recorder's memory.

    Args:
        checkpoint: on disk.
        template: the experiment's own module, whose shapes the state must have.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
        UserError: it is of another model.
    """
    try:
        # torch.load reads a flipped bit without complaint; the archive's own CRC-32 tell.
        with ZipFile(checkpoint.path) as archive:
            damaged = archive.testzip()
        content = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BrokenCheckpoint(str(error).partition("\n")[0]) from error
    if damaged is not None:
        raise BrokenCheckpoint(f"{damaged} in it is not what was saved")
    if "recorder" not in content or "state_dict" not in content:
        raise BrokenCheckpoint("it is no checkpoint of a run")
    check_shapes(checkpoint.path, _shapes(content["state_dict"]), _shapes(template.state_dict()))
    return content


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of the model's parameters and buffers in a module's state."""
    prefix = "model."
    return {
        name.removeprefix(prefix): tuple(tensor.shape)
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
