"""Conversion of a checkpoint of one backend for the other, or to safetensors, and back."""

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.convert.new_run import make_run
from pipeline.errors import UserError
from pipeline.run.transfer import export_run, export_tested
from pipeline.storage import checkpoints, portable_file
from pipeline.storage.portable_file import SUFFIX, PortableCheckpoint

PICKLED = (".pth", ".pt", ".bin", ".pkl")  # weights as other programs save them


def convert(
    source: Path,
    target: Path,
    backend: str | None = None,
    whole: bool = False,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> None:
    """Convert a checkpoint.

    Args:
        source: a run, one of its checkpoints, or a safetensors file.
        target: a safetensors file, or the folder of a new run.
        backend: target backend; None: the one that is not the source's.
        whole: put the whole run into a safetensors file, not only the weights.
        config: a run whose config the new run uses; None: the source's.
        overrides: of that config, as for `run.py`.
        leave_out: patterns of names of arrays that start anew, as a head for other classes.
    """
    check_target(target)
    to_file = target.suffix == SUFFIX
    print(f"reading {source}", flush=True)
    portables = read_source(source, to_file and not whole)
    last = portables[-1]
    step = last.state.step
    try:
        if not to_file:
            make_run(source, target, portables, backend, config, overrides, leave_out)
        elif whole and last.recorder_state:
            portable_file.write_portable(target, last)
            print(f"all of the run at step {step}  →  {target}")
        else:
            portable_file.write_weights(target, last)
            which = "averaged weights" if last.state.averages else "weights"
            why = f" ({last.run['chosen']})" if "chosen" in last.run else ""
            print(f"{which} of step {step}{why}  →  {target}")
    except OSError as error:
        raise unwritable(target, error) from error


def check_target(target: Path) -> None:
    """Refuse a target that exists, is not writable, or has the name of another file format."""
    if target.suffix[1:2].isalpha() and target.suffix != SUFFIX:
        problem = f"{target.suffix} is no format to convert to"
        raise UserError("DST", target, problem=problem, hint=f"Name a {SUFFIX} file, or a folder.")
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError("DST", target, problem="it already exists")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir():
        raise unwritable(target, NotADirectoryError(errno.ENOTDIR, f"{above} is a file"))
    if not os.access(above, os.W_OK):
        raise unwritable(target, PermissionError(errno.EACCES, f"{above} is read-only"))


def unwritable(target: Path, error: OSError) -> UserError:
    """Make the error for a target that the file system refuses."""
    problem = f"it cannot be written: {error.strerror or error}"
    hint = "Choose another place, or free some space."
    return UserError("DST", target, problem=problem, hint=hint)


def read_source(source: Path, weights: bool) -> list[PortableCheckpoint]:
    """Read a run, a checkpoint or a file, in the order of steps; the last is the one asked for.

    With `weights` a whole run gives the weights that `mode=test` would choose, else its newest
    checkpoint.
    """
    if source.suffix == SUFFIX:
        if not source.is_file():
            raise UserError("SRC", source, "an existing file")
        try:
            portable = portable_file.read_portable(source)
        except checkpoints.BrokenCheckpoint as error:
            raise checkpoints.broken("SRC", source, error) from error
        return [replace(portable, run=portable.run | {"source": str(source)})]
    if source.suffix in PICKLED and source.is_file():
        problem = "a pickle can run any code, so it is not read"
        hint = "Save it as safetensors: safetensors.torch.save_file(model.state_dict(), 'NAME.safetensors')"
        raise UserError("SRC", source, problem=problem, hint=hint)
    found = checkpoints.candidates(source, "SRC")
    if weights:
        return export_tested(source, "SRC")
    return export_run(found[:1] if checkpoints.checkpoint_at(source) else found, "SRC")
