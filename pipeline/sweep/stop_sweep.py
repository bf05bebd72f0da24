"""Interruption of a sweep, in its own process and in joblib's workers."""

import os
import signal
from pathlib import Path
from types import FrameType

from pipeline.devices.process_exit import die_with_parent
from pipeline.devices.stop_signals import StopSignal
from pipeline.job_context import job_context


class Stop(StopSignal):
    """Stop signal of a sweep, caught from the first job on; after it no further job starts."""

    passes_on = False  # True if joblib's workers get the signal too; they then stop their jobs
    listening = False

    def listen(self) -> None:
        """Install the signal handlers for the rest of this process."""
        if not self.listening:
            self.listening = True
            self.__enter__()
            if job_context().sweep_pid == os.getppid():
                # If the sweep dies, a worker would continue with its queue. SIGKILL ends the worker
                # even now, unlike SIGTERM, or SIGHUP under nohup; its job then saves and ends.
                die_with_parent(signal.SIGKILL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.passes_on and self.signal is None:
            for children in Path("/proc/self/task").glob("*/children"):
                for worker in children.read_text().split():
                    os.kill(int(worker), signal.SIGTERM)
        super()._note(number, frame)


stop = Stop()
