"""How processes begin and end."""

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
    """Ask the kernel to end this process when its parent dies without a word (Linux only).

    Args:
        sent: the signal that it is ended by.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SIGNAL_PARENT_DIED, sent)


def tie(cores: Sequence[int] | None) -> None:
    """Tie this new process to its parent and to its cores.

    Args:
        cores: that it may run on; None for those of its parent.
    """
    die_with_parent()
    if cores is not None:
        os.sched_setaffinity(0, cores)


def leave(code: int) -> NoReturn:
    """End this process with all closed and written, as `multiprocessing` ends those that it forks.

    An ordinary end frees the million objects of a framework one by one, which takes over a second.

    Args:
        code: its exit code.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code)
