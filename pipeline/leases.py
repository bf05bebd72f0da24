"""Leases: what only one job of this machine may use at a time, between all sweeps of a user.

A lease is a lock of the kernel's on a file. Processes that inherit it hold it too, and it ends with
the last of them, however that one ends.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

POLL = 0.1  # seconds


@dataclass(frozen=True)
class Lease:
    """Some of what there is, for one job.

    Args:
        names: of what was given.
        descriptors: of the locks, for the process that uses it to inherit.
    """

    names: Sequence[str] = ()
    descriptors: Sequence[int] = ()


@contextmanager
def leased(
    kind: str,
    names: Sequence[str],
    count: int,
    given_up: Callable[[], bool] = lambda: False,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[Lease | None]:
    """Hold `count` of the things called `names`, waiting until so many are free.

    Args:
        kind: of thing, such as `gpu`.
        names: of all there are, those to take first in front.
        count: how many; never more than there are.
        given_up: whether to stop waiting; None is given then.
        waiting: called once if there is something to wait for.
    """
    turn: dict[str, int] = {}
    held: dict[str, int] = {}
    told = False
    try:
        while len(held) < count and not given_up():
            # Only who is at the head of the queue collects: two that held half each of what both
            # need would wait for ever.
            lock(turn, f"{kind}-queue", ["head"], 1)
            if turn:
                lock(held, kind, names, count)
            if len(held) < count:
                if not told:
                    waiting()
                    told = True
                time.sleep(POLL)
        release(turn)
        yield Lease(list(held), list(held.values())) if len(held) >= count else None
    finally:
        release(turn)
        release(held)


def lock(held: dict[str, int], kind: str, names: Sequence[str], count: int) -> None:
    """Add to `held` what is free, until there are `count`."""
    folder = leases_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if len(held) == count:
            return
        if name in held:
            continue
        file = folder / re.sub(r"[^\w.-]", "-", f"{kind}-{name}")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held[name] = descriptor
        except BlockingIOError:  # another process holds it
            os.close(descriptor)


def release(held: dict[str, int]) -> None:
    """Let go of all; a process that has inherited a lock still holds it."""
    while held:
        os.close(held.popitem()[1])


def leases_folder() -> Path:
    """Where the locks lie: of this user on this machine, or within a job of Slurm's.

    Slurm gives each job devices of its own, and numbers them from 0 in each.
    """
    home = Path(os.environ.get("TANDEM_LEASES", f"{gettempdir()}/tandem-{os.getuid()}"))
    return home / os.environ.get("SLURM_JOB_ID", "leases")
