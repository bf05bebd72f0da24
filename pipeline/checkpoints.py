"""Finding checkpoints on disk. What is in them is each backend's own matter.

torch: `checkpoints/last-000120.ckpt`, files of torch.save. jax: `checkpoints/000120/`, Orbax steps.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.runs import IDENTITY

FOLDER = "checkpoints"
TORCH_FILE = re.compile(r"(?:best|last)-(\d+)\.ckpt")
ORBAX_STEP = re.compile(r"\d+")


class BrokenCheckpoint(Exception):
    """A checkpoint that is torn or corrupt, or not there in full."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Args:
        path: of the file (torch) or folder (jax).
        backend: that wrote it.
        step: optimizer updates done.
    """

    path: Path
    backend: str
    step: int

    @property
    def run(self) -> Path:
        """The folder of the run that wrote it."""
        return self.path.parent.parent


def checkpoint_at(path: Path) -> Checkpoint | None:
    """The checkpoint that `path` itself is, if it is one."""
    if path.is_file() and (match := TORCH_FILE.fullmatch(path.name)):
        return Checkpoint(path, "torch", int(match[1]))
    if path.is_dir() and ORBAX_STEP.fullmatch(path.name) and path.parent.name == FOLDER:
        return Checkpoint(path, "jax", int(path.name))
    return None


def checkpoints_of(run: Path) -> list[Checkpoint]:
    """All checkpoints of a run, newest first."""
    folder = run / FOLDER
    found = [checkpoint_at(path) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(
        filter(None, found), key=lambda found: (found.step, found.path.name), reverse=True
    )


def run_of(path: Path, key: str) -> Path:
    """The run folder that `path` names: itself, its checkpoints folder, or a checkpoint in it.

    Raises:
        UserError: nothing is there, or it is no run.
    """
    hint = "Name a run's folder (it holds run.json and checkpoints/) or one of its checkpoints."
    if not path.exists():
        raise UserError(key, path, "an existing run or checkpoint", hint)
    for candidate in (path, path.parent, path.parent.parent):
        if (candidate / IDENTITY).is_file():
            return candidate
    raise UserError(key, path, "a run, or a checkpoint inside one", hint)


def candidates(path: Path, key: str) -> list[Checkpoint]:
    """The checkpoints to try for `path`, best choice first.

    A checkpoint is followed by the older ones of its run, so that a broken one can be passed over.

    Raises:
        UserError: there is none.
    """
    found = checkpoints_of(run_of(path, key))
    if chosen := checkpoint_at(path):
        found = [chosen] + [other for other in found if other.step < chosen.step]
    if not found:
        raise UserError(
            key, path, "a run with a checkpoint", "This run has none yet: start it without resume."
        )
    return found


def checkpoint_of_step(run: Path, step: int) -> Checkpoint | None:
    """The checkpoint of a run at `step`, if it is still there."""
    return next((found for found in checkpoints_of(run) if found.step == step), None)


def first_readable(
    found: list[Checkpoint], read: Callable[[Checkpoint], Any], report: Callable[[str], None]
) -> tuple[Checkpoint, Any]:
    """The first checkpoint that can be read, and its content; broken ones are named and passed over.

    Raises:
        UserError: none can be read.
    """
    for checkpoint in found:
        try:
            return checkpoint, read(checkpoint)
        except BrokenCheckpoint as error:
            report(f"{checkpoint.path} is broken ({error}); trying the one before it")
    raise UserError(
        "resume",
        found[0].path,
        "a run with a checkpoint that can be read (all of its checkpoints are broken)",
        "Start the run again without resume.",
    )


def check_shapes(
    checkpoint: Checkpoint,
    saved: Mapping[str, tuple[int, ...]],
    model: Mapping[str, tuple[int, ...]],
) -> None:
    """Refuse a checkpoint of another model, naming what is missing, left over or of another shape.

    Args:
        checkpoint: that was read.
        saved: canonical parameter names and shapes in it.
        model: those that the experiment's model has.

    Raises:
        UserError: they differ.
    """
    faults = [f"{name} is missing" for name in model if name not in saved]
    faults += [f"{name} is left over" for name in saved if name not in model]
    faults += [
        f"{name} is {list(saved[name])} where the model has {list(model[name])}"
        for name in model
        if name in saved and tuple(saved[name]) != tuple(model[name])
    ]
    if faults:
        raise UserError(
            "model",
            checkpoint.path,
            "the model that the checkpoint was made with: " + "; ".join(faults[:5]),
            "Name the model and data set of that run, or leave them out: its own config is used.",
        )
