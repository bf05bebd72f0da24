"""Start and exit of processes."""

import atexit
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

SIGNAL_PARENT_DIED = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def die_with_parent(sent: int = signal.SIGTERM) -> None:
    """Let the kernel send the signal `sent` to this process when its parent dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SIGNAL_PARENT_DIED, sent)


def bind_to_parent_and_cores(cores: Sequence[int] | None) -> None:
    """Let this process end with its parent, and bind it to `cores`; None for those of its parent."""
    die_with_parent()
    if cores is not None:
        os.sched_setaffinity(0, cores)


def fast_exit(code: int) -> NoReturn:
    """Run the exit handlers, flush the output and exit, as `multiprocessing` does in a fork.

    A normal exit takes over a second, since it frees a framework's objects one by one.
    """
    threading._shutdown()  # pyrefly: ignore[missing-attribute]: private, also used by multiprocessing
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a broken pipe, or closed
            stream.flush()
    os._exit(code)
