"""What stopped a run, as the user can act on it."""

import errno
import logging
import os
import time
from pathlib import Path

from pipeline.checkpoints import checkpoints_of
from pipeline.errors import Diverged, RunFailed, UserError
from pipeline.runs import read_json, write_json

log = logging.getLogger(__name__)


def in_words(error: Exception, folder: Path) -> Exception:
    """An error as the user can act on it; any other is a fault of ours, and stays what it is."""
    if isinstance(error, Diverged):
        return RunFailed(diverged_message(error, folder))
    if disk_is_full(error):
        hint = f"Free some space, then go on with resume={folder}"
        full = UserError("hydra.run.dir", folder, "on a disk with space left: it is full", hint)
        full.__cause__ = error
        return full
    if not isinstance(error, UserError):
        log.error("the run failed", exc_info=error)
    return error


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error came of a full disk; libraries tell it in their own ways."""
    if error is None:
        return False
    if getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
        return True
    return disk_is_full(error.__cause__ or error.__context__)


def diverged_message(error: Diverged, folder: Path) -> str:
    """What to say of a loss that is no number."""
    good = checkpoints_of(folder)
    kept = f"The last good checkpoint is {good[0].path}" if good else "No checkpoint was kept yet"
    return f"{error}. {kept}. Lower optimizer.lr or set train.clip_norm=1."


def note_failure(folder: Path, rank: int, error: Exception) -> None:
    """Leave a rank's error in the run's folder, for the process that will tell it."""
    write_json(folder / f"rank-{rank}.json", {"rank": rank, "error": str(error), "at": time.time()})


def first_failure(folder: Path, ranks: int) -> str | None:
    """The error of the rank that failed first, if it noted one: the others fail for want of it.

    What the first rank has found as well is no matter of one rank, such as bad input.
    """
    notes = [note for path in folder.glob("rank-*.json") if (note := read_json(path))]
    if not notes:
        return None
    earliest = min(notes, key=lambda note: note["at"])
    if any(note["rank"] == 0 and note["error"] == earliest["error"] for note in notes):
        return earliest["error"]
    return f"rank {earliest['rank']} of {ranks} failed: {earliest['error']}"


def forget_failures(folder: Path) -> None:
    """Remove what ranks have noted in an earlier attempt."""
    for path in folder.glob("rank-*.json"):
        path.unlink(missing_ok=True)
