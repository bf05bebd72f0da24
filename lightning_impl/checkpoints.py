"""Checkpoints as Lightning writes them: files of torch.save, each written atomically."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO

from lightning_impl.training.step import TrainingModule
from pipeline.atomic_files import replacing
from pipeline.errors import Interrupted
from pipeline.run.recording.recorder import Recorder
from pipeline.storage.checkpoints import (
    BrokenCheckpoint,
    Checkpoint,
    check_run,
    check_run_folder,
    check_shapes,
    checkpoints_of,
)
from pipeline.storage.recorder_state import Best, RecorderState

KEPT = 2  # newest checkpoints: if the last is broken, the one before it remains


class CheckpointFiles(TorchCheckpointIO):
    """Writes each checkpoint atomically, and gives Lightning the content to resume from.

    Only here: Orbax writes atomically by itself, and the Flax loop takes a state as an argument.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        self.content = content

    def load_checkpoint(self, *args: object, **kwargs: object) -> dict[str, Any]:
        """Return the content, once."""
        content, self.content = self.content, None
        return content or {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Replace the file at `path` atomically."""
        check_run_folder(Path(path).parent.parent)
        Path(path).parent.mkdir(exist_ok=True)
        content = BytesIO()  # torch.save's own error for a full disk is unclear
        torch.save(checkpoint, content)
        with replacing(Path(path)) as aside:
            aside.write_bytes(content.getbuffer())


class _AtEvaluation(ModelCheckpoint):
    """Saves after evaluations only, without Lightning's checks after every step."""

    def __init__(self, folder: str, recorder: Recorder, kind: str, kept: int) -> None:
        super().__init__(
            folder,
            f"{kind}-{{step:06d}}",
            monitor="step",
            mode="max",
            save_top_k=kept,
            auto_insert_metric_name=False,
        )
        self.recorder, self.folder = recorder, Path(folder)

    def on_train_batch_end(self, trainer: Trainer, *args: object, **kwargs: object) -> None:
        """Do nothing."""


class BestCheckpoint(_AtEvaluation):
    """Keeps the checkpoint of the recorder's best evaluation."""

    # Its key in a checkpoint; Lightning's default would be the same for both callbacks.
    state_key = "BestCheckpoint"

    def __init__(self, folder: str, recorder: Recorder) -> None:
        super().__init__(folder, recorder, "best", kept=1)

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        """Return whether this step's evaluation is the best so far."""
        best = self.recorder.best
        return best is not None and best.step == trainer.global_step


class Checkpoints(_AtEvaluation):
    """Keeps the newest checkpoints, and saves one before the run stops on request."""

    state_key = "LastCheckpoints"  # written into every checkpoint, so it stays

    def __init__(self, folder: str, recorder: Recorder) -> None:
        super().__init__(folder, recorder, "last", KEPT)
        self.step = 0  # updates done

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step at which this process starts."""
        super().on_train_start(trainer, pl_module)
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: object, **kwargs: object) -> None:
        """Stop after an update without an evaluation, if asked; all other callbacks have been called."""
        if trainer.global_step == self.step:
            return  # a micro-batch: no update yet
        self.step = trainer.global_step
        if not self.recorder.intervals.evaluates(self.step):
            self.stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the evaluated state; Lightning calls this callback last."""
        super().on_validation_end(trainer, pl_module)
        self._remove_outdated(trainer)
        self.stop_if_asked(trainer, saved=True)

    def stop_if_asked(self, trainer: Trainer, saved: bool = False) -> None:
        """Save a checkpoint of this step and leave the loop, if a stop was requested.

        Raises:
            Interrupted: the state is saved.
        """
        step = trainer.global_step
        exit_code = self.recorder.exit_code_if_stopped(step)
        if exit_code is None or step == self.recorder.intervals.total:
            return
        if not saved:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
            self._remove_outdated(trainer)
        raise Interrupted(step, exit_code)

    def _remove_outdated(self, trainer: Trainer) -> None:
        """Remove all but the newest checkpoints, as Orbax does.

        Lightning removes neither the checkpoint that a run resumed from nor those of earlier processes.
        """
        if trainer.is_global_zero:
            remove_outdated(self.folder.parent, trainer.global_step, self.recorder.best)


def remove_outdated(run: Path, step: int, best: Best | None) -> None:
    """Remove all checkpoints of a run but the newest up to `step`, and that of the best evaluation."""
    found = checkpoints_of(run)
    last = [checkpoint for checkpoint in found if checkpoint.path.name.startswith("last-")]
    outdated = [other for other in last if other.step > step]  # broken ones
    outdated += [other for other in last if other not in outdated][KEPT:]
    if best and any(other.step == best.step for other in found if other not in last):
        outdated += [other for other in found if other not in last and other.step != best.step]
    for checkpoint in outdated:
        checkpoint.path.unlink(missing_ok=True)


def read_checkpoint(checkpoint: Checkpoint, template: TrainingModule) -> dict[str, Any]:
    """Read the state, on the CPU, and the recorder's state; `template` gives the expected shapes.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
    """
    content = _read(checkpoint)
    check_shapes(checkpoint.path, _shapes(content["state_dict"]), _shapes(template.state_dict()))
    return content


def read_best(checkpoint: Checkpoint) -> Best | None:
    """Read the best evaluation that the recorder knew; it raises as `read_checkpoint` does."""
    return RecorderState.from_json(_read(checkpoint)["recorder"]).best


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        # torch.load does not notice a flipped bit; the archive's own CRC-32 does.
        with ZipFile(checkpoint.path) as archive:
            damaged = archive.testzip()
        content = torch.load(checkpoint.path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BrokenCheckpoint(str(error).partition("\n")[0]) from error
    if damaged is not None:
        raise BrokenCheckpoint(f"{damaged} in it is not what was saved")
    if "recorder" not in content or "state_dict" not in content:
        raise BrokenCheckpoint("it is no checkpoint of a run")
    check_run(checkpoint, content.get("signature"))
    return content


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of the model's parameters and buffers in a module's state."""
    own = "model."
    named = [(name, tensor) for name, tensor in state.items() if name.startswith(own)]
    return {name.removeprefix(own): tuple(tensor.shape) for name, tensor in named}
