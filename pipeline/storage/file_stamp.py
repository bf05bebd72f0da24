"""Stamp of a file: two that are equal are of one content, which need not be read again."""

import os
import time
from pathlib import Path

FRESH = 1_000_000_000  # nanoseconds within which a file may change twice without another time

Stamp = tuple[int, ...]


def stamp_of(file: Path) -> Stamp:
    """Return inode, size and times of a file; of a fresh one also the time now, so that none is equal.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(file)
    stamp = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    is_fresh = time.time_ns() - max(stamp[2:]) < FRESH
    return (*stamp, time.monotonic_ns()) if is_fresh else stamp
