"""Checkpoints on disk: find those of a run, choose the one to load, check that it fits.

torch: `checkpoints/last-000120.ckpt`, files of torch.save. jax: `checkpoints/000120/`, Orbax steps.
Only the backends read their content.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline.backend_specs import BACKENDS
from pipeline.commands import command
from pipeline.errors import RunFailed, UserError
from pipeline.storage.recorder_state import Best
from pipeline.storage.run_folder import CHECKPOINTS, RunFolder
from pipeline.storage.run_identity import IDENTITY, RESULT

MAX_NAMED = 8  # mismatched parameters listed in one message

T = TypeVar("T")


class BrokenCheckpoint(Exception):
    """A checkpoint that is torn, corrupt or incomplete."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk: a file (torch) or folder (jax), after `step` optimizer updates."""

    path: Path
    backend: str
    step: int

    @property
    def run(self) -> Path:
        """The folder of the run that wrote it."""
        return self.path.parent.parent


def checkpoint_at(path: Path) -> Checkpoint | None:
    """Return the checkpoint at `path` itself; None if it is none."""
    if path.parent.name != CHECKPOINTS:
        return None
    for name, backend in BACKENDS.items():
        match = backend.checkpoint.fullmatch(path.name)
        if match and (path.is_dir() if backend.checkpoint_is_folder else path.is_file()):
            return Checkpoint(path, name, int(match[1]))
    return None


def checkpoints_of(run: Path) -> list[Checkpoint]:
    """Return all checkpoints of a run, newest first; none if every save was interrupted."""
    found = _all_checkpoints(run)
    is_whole = (BACKENDS[one.backend].checkpoint_is_whole(one.path) for one in found)
    return found if any(is_whole) else []


def torn_checkpoints_of(run: Path) -> list[Checkpoint]:
    """Return the checkpoints of a run without a complete one, which starts again."""
    return [] if checkpoints_of(run) else _all_checkpoints(run)


def _all_checkpoints(run: Path) -> list[Checkpoint]:
    folder = run / CHECKPOINTS
    paths = folder.iterdir() if folder.is_dir() else []
    found = [checkpoint for path in paths if (checkpoint := checkpoint_at(path))]
    return sorted(found, key=lambda one: (one.step, one.path.name), reverse=True)


def remove_unfinished_saves(folder: Path) -> None:
    """Remove the temporary files of `replacing` after a killed save."""
    for path in folder.glob(".*.ckpt.*"):
        path.unlink(missing_ok=True)


def run_of(path: Path, key: str) -> Path:
    """Return the run folder that `path` names: itself, its checkpoints folder, or a checkpoint in it."""
    hint = "Name a run's folder (it holds run.json and checkpoints/) or one of its checkpoints."
    if not path.exists():
        raise UserError(key, path, "an existing run or checkpoint", hint)
    for candidate in (path, path.parent, path.parent.parent):
        if (candidate / IDENTITY).is_file():
            return candidate
    jobs = sorted(child.parent.name for child in path.glob(f"*/{IDENTITY}"))
    if jobs:
        hint = f"It is a sweep: name the folder of one of its jobs, such as {path / jobs[0]}."
    raise UserError(key, path, "a run, or a checkpoint inside one", hint)


def candidates(path: Path, key: str) -> list[Checkpoint]:
    """Return the checkpoints to try for `path`, best choice first.

    The older ones of the same run follow, as a fallback for a broken one. UserError if there is none.
    """
    run = run_of(path, key)
    found = checkpoints_of(run)
    if chosen := checkpoint_at(path):
        found = [chosen] + [other for other in found if other.step < chosen.step]
    if not found:
        torn = torn_checkpoints_of(run)
        why = f"its first save, {torn[0].path.name}, was cut off" if torn else "it has none yet"
        way_out = "Start this run again without resume."
        raise UserError(key, path, f"a run with a checkpoint ({why})", way_out)
    return found


def checkpoint_of_step(run: Path, step: int) -> Checkpoint | None:
    """Return the checkpoint of a run at `step`; None if it does not exist."""
    return next((found for found in checkpoints_of(run) if found.step == step), None)


def choose_tested(
    path: Path, key: str, best_in: Callable[[Checkpoint], Best | None]
) -> tuple[Checkpoint, str]:
    """Choose the checkpoint to test: the one at `path`, or the best one of the run at `path`.

    `best_in` reads the best evaluation so far from a checkpoint.

    Returns:
        The checkpoint, and the reason for the choice in a few words.
    """
    found = candidates(path, key)
    if checkpoint_at(path):
        return found[0], "as asked"
    result = RunFolder(found[0].run).result
    best, source = result.best if result else None, RESULT
    if best is None:
        readable, best = first_readable(found, best_in, lambda message: None, key)
        source = f"{readable.path.name}, since {RESULT} does not tell"
    if best is None or best.metric is None or best.value is None:
        return found[0], "the newest: there was no evaluation yet"
    if chosen := checkpoint_of_step(found[0].run, best.step):
        return chosen, f"the best: {best.metric} {best.value:.4g}, by {source}"
    return found[0], f"the newest: the best, of step {best.step} by {source}, is gone"


def first_readable(
    found: Sequence[Checkpoint],
    read: Callable[[Checkpoint], T],
    report: Callable[[str], None],
    key: str = "resume",
) -> tuple[Checkpoint, T]:
    """Return the first checkpoint that can be read, and its content; report broken ones.

    `found` has the best choice first; `read` returns the content of a checkpoint, or raises BrokenCheckpoint;
    `key` is the config key that names the run or checkpoint.

    Raises:
        UserError: no checkpoint can be read.
    """
    reason = BrokenCheckpoint("there is none")
    for checkpoint in found:
        try:
            return checkpoint, read(checkpoint)
        except BrokenCheckpoint as error:
            reason = error
            if checkpoint is not found[-1]:
                report(f"{checkpoint.path} is broken ({error}); trying the one before it")
    if len(found) == 1:
        raise broken(key, found[0].path, reason)
    problem, hint = "all checkpoints of this run are broken", _way_out(key, "run")
    raise UserError(key, found[0].path, problem=problem, hint=hint)


def broken(key: str, path: Path, reason: BrokenCheckpoint) -> UserError:
    """Make the error for a broken checkpoint or file."""
    if not path.exists():
        problem = "it was deleted while it was read: a run keeps only its newest and its best"
        return UserError(key, path, problem=problem, hint="Try again.")
    return UserError(key, path, problem=f"it is broken: {reason}", hint=_way_out(key, "one"))


def _way_out(key: str, kind: str) -> str:
    return f"Name another {kind}." if key != "resume" else "Start the run again without resume."


def run_signature(run: Path) -> str | None:
    """Return the signature in a run's `run.json`, to store in its checkpoints."""
    identity = RunFolder(run).identity
    return identity.signature if identity else None


def check_run(checkpoint: Checkpoint, signature: str | None) -> None:
    """Refuse a checkpoint of another run: one whose signature `run.json` beside it has never had.

    `signature` is the one stored in the checkpoint; None in checkpoints of earlier versions.
    """
    identity = RunFolder(checkpoint.run).identity
    if signature is None or identity is None or identity.signature is None:
        return
    if signature not in {identity.signature, *identity.earlier_signatures}:
        run = f"that of the run in {checkpoint.run} is {identity.signature}"
        problem = f"another run wrote it (its signature is {signature}, {run})"
        hint = "Put it back into its own run, or name that one."
        raise UserError("checkpoint", checkpoint.path, problem=problem, hint=hint)


def check_run_folder(run: Path) -> None:
    """Refuse to save into a deleted folder: a new one would lack most of the run."""
    if error := deleted_folder(run):
        raise error


def deleted_folder(run: Path) -> RunFailed | None:
    """Make the error for a run folder that was deleted while the run was at work; None if it is there."""
    try:
        # Orbax, saving in the background, makes the folder of a checkpoint anew.
        is_deleted = {path.name for path in run.iterdir()} == {CHECKPOINTS}
    except FileNotFoundError:
        is_deleted = True
    except OSError:  # it is there, but cannot be listed now
        is_deleted = False
    message = f"{run} was deleted while the run was at work. Start it again."
    return RunFailed(message) if is_deleted else None


def check_shapes(
    path: Path, saved: Mapping[str, Sequence[int]], model: Mapping[str, Sequence[int]]
) -> None:
    """Refuse a checkpoint of another model, and name the missing, unexpected and mismatched arrays.

    `saved` are the canonical names and shapes of the parameters and running statistics in the checkpoint
    or file at `path`, `model` those of the experiment's model.
    """
    faults = [f"{name} is missing" for name in model if name not in saved]
    faults += [f"{name} is left over" for name in saved if name not in model]
    faults += [
        f"{name} is {list(saved[name])} where the model has {list(model[name])}"
        for name in model
        if name in saved and tuple(saved[name]) != tuple(model[name])
    ]
    if faults:
        more = [f"and {len(faults) - MAX_NAMED} more"] if len(faults) > MAX_NAMED else []
        listed = "; ".join(faults[:MAX_NAMED] + more)
        hint = "Name the model and data set of that run, or leave them out: its own config is used."
        if set(saved) == set(model):
            leave_out = f"{command('convert')} … --leave-out NAME"
            hint += f" Weights alone may leave out a head: {leave_out}"
        elif any(name not in saved for name in model) and any(name not in model for name in saved):
            hint += " Of your own models under other names: model.names=FILE, as pipeline.parity writes it."
        problem = f"the checkpoint is of another model: {listed}"
        raise UserError("model", path, problem=problem, hint=hint)
