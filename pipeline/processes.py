"""Child processes that do not outlive what they are for."""

import ctypes
import signal
import sys

SIGNAL_PARENT_DIED = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def die_with_parent(sent: int = signal.SIGTERM) -> None:
    """Ask the kernel to end this process when its parent dies without a word (Linux only).

    Args:
        sent: the signal that it is ended by.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SIGNAL_PARENT_DIED, sent)
