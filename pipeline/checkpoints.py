"""Finding checkpoints on disk. What is in them is each backend's own matter.

torch: `checkpoints/last-000120.ckpt`, files of torch.save. jax: `checkpoints/000120/`, Orbax steps.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.runs import IDENTITY, RESULT, read_json

FOLDER = "checkpoints"
TORCH_FILE = re.compile(r"(?:best|last)-(\d+)\.ckpt")
ORBAX_STEP = re.compile(r"\d+")

NAMED = 8  # parameters that do not fit, in one message

# What else there is to do where no checkpoint can be read, by the key that asked for one.
WAY_OUT = {"resume": "Start the run again without resume."}


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


def tested_checkpoint(path: Path, key: str) -> Checkpoint:
    """The checkpoint whose weights are meant by `path`: itself; of a run that is named whole the best.

    Of a run that did not get as far as to know its best, the newest.

    Raises:
        UserError: there is none.
    """
    newest = candidates(path, key)[0]
    if checkpoint_at(path):
        return newest
    run = run_of(path, key)
    best = (read_json(run / RESULT) or {}).get("best")
    return (checkpoint_of_step(run, best["step"]) if best else None) or newest


def first_readable(
    found: Sequence[Checkpoint],
    read: Callable[[Checkpoint], Any],
    report: Callable[[str], None],
    key: str = "resume",
) -> tuple[Checkpoint, Any]:
    """The first checkpoint that can be read, and its content; broken ones are named and passed over.

    Args:
        found: best choice first.
        read: gives the content.
        report: what to say of a broken one that has one before it.
        key: that asked for it.

    Raises:
        UserError: none can be read.
    """
    for checkpoint in found:
        try:
            return checkpoint, read(checkpoint)
        except BrokenCheckpoint as error:
            reason = error
            if checkpoint is not found[-1]:
                report(f"{checkpoint.path} is broken ({error}); trying the one before it")
    if len(found) == 1:
        raise broken(key, found[0].path, reason)
    raise UserError(
        key,
        found[0].path,
        "a run with a checkpoint that can be read (all of its checkpoints are broken)",
        WAY_OUT.get(key, "Name another run."),
    )


def broken(key: str, path: Path, reason: BrokenCheckpoint) -> UserError:
    """What to say of the one checkpoint or file that was asked for."""
    hint = WAY_OUT.get(key, "Name another one.")
    return UserError(key, path, f"whole, but it is broken: {reason}", hint)


def check_shapes(
    path: Path, saved: Mapping[str, Sequence[int]], model: Mapping[str, Sequence[int]]
) -> None:
    """Refuse a checkpoint of another model, naming what is missing, left over or of another shape.

    Args:
        path: of the checkpoint or file.
        saved: canonical names and shapes of the parameters and batch statistics in it.
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
        more = [f"and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
        raise UserError(
            "model",
            path,
            "the model that the checkpoint was made with: " + "; ".join(faults[:NAMED] + more),
            "Name the model and data set of that run, or leave them out: its own config is used.",
        )
