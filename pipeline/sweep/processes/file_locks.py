"""Locks on GPUs and cores, shared by all sweeps of a user on this machine.

Each is a `flock` on a file. A process that inherits its descriptor holds the lock too. The kernel
releases the lock when the last of these processes ends, even after SIGKILL.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

POLL = 0.1  # seconds


@contextmanager
def acquire(
    kind: str,
    names: Sequence[str],
    count: int,
    is_stopped: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda text: None,
) -> Generator[dict[str, int] | None]:
    """Wait until `count` of the resources `names` are free, and hold them.

    Args:
        kind: kind of resource, such as `GPU`.
        names: names of all resources, preferred ones first.
        count: number to hold, at most `len(names)`.
        is_stopped: returns True to stop waiting; the result is then None.
        report: receives a message when a wait lasts.

    Returns:
        The names of the held resources, each with the descriptor of its lock, for a process to inherit.
    """
    prefix = kind.lower()
    turn: dict[str, int] = {}
    held: dict[str, int] = {}
    waits = 0
    try:
        while len(held) < count and not is_stopped():
            # Only the head of the queue takes locks: two jobs that each held half of the resources
            # would deadlock.
            lock(turn, f"{prefix}-queue", ["head"], 1)
            if turn:
                lock(held, prefix, names, count)
            if len(held) < count:
                if waits == 1:  # not for the moment in which another job takes its locks
                    all_names = ", ".join(names)
                    report(f"waits for {count} of the {kind}s {all_names}: other jobs use them")
                waits += 1
                time.sleep(POLL)
        release(turn)
        yield dict(held) if len(held) >= count else None
    finally:
        release(turn)
        release(held)


def lock(held: dict[str, int], prefix: str, names: Sequence[str], count: int) -> None:
    """Lock free resources until `held` has `count`.

    The folder of the locks is one per user and machine, or per Slurm job: Slurm numbers the devices of
    each job from 0.
    """
    home = Path(os.environ.get("TANDEM_LOCKS", f"{gettempdir()}/tandem-{os.getuid()}"))
    folder = home / os.environ.get("SLURM_JOB_ID", "locks")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if len(held) == count:
            return
        if name in held:
            continue
        file = folder / re.sub(r"[^\w.-]", "-", f"{prefix}-{name}")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held[name] = descriptor
        except BlockingIOError:  # another process holds it
            os.close(descriptor)


def release(held: dict[str, int]) -> None:
    """Release all locks; a process that has inherited one still holds it."""
    while held:
        os.close(held.popitem()[1])
