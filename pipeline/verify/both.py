"""Two calls at the same time, one for each side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

L = TypeVar("L")
R = TypeVar("R")


def both(left: Callable[[], L], right: Callable[[], R]) -> tuple[L, R]:
    """Return the results of two calls that wait for different processes."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(left)
        theirs = right()
        return pending.result(), theirs
