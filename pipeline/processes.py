"""Child processes that do not outlive what they are for."""

import ctypes
import signal
import sys

SIGNAL_PARENT_DIED = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies without a word (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SIGNAL_PARENT_DIED, signal.SIGTERM)
