"""Being asked to stop a sweep, for the process of the sweep and for joblib's workers."""

import os
import signal
from pathlib import Path
from types import FrameType

from pipeline.interruption import Interruption
from pipeline.processes import die_with_parent

SWEEPER = "TANDEM_SWEEPER"  # the process of the sweep, for the workers that joblib starts


class Stop(Interruption):
    """The interruption of a sweep: noted from the first job on, so that no other is started.

    Attributes:
        passes_on: whether joblib's workers are told; they stop their jobs, and start no other.
    """

    passes_on = False
    listening = False

    def listen(self) -> None:
        """Take the signals, for as long as this process lives."""
        if not self.listening:
            self.listening = True
            self.__enter__()
            if os.environ.get(SWEEPER) == str(os.getppid()):
                # A worker would go on with what is in its queue. Unlike SIGTERM, or SIGHUP below
                # nohup, this ends it even now, and that has its job save and end.
                die_with_parent(signal.SIGKILL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.passes_on and self.signal is None:
            for worker in own_children():
                os.kill(worker, signal.SIGTERM)
        super()._note(number, frame)


stop = Stop()


def own_children() -> list[int]:
    """The processes that this one has started."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]
