"""Signals that stop a run, as a flag that both backends read at each step boundary.

Saving in a signal handler can corrupt the file, so the handler only sets the flag.
"""

import signal
from types import FrameType

# Slurm announces the time limit with a signal set by the job, usually SIGUSR1 or SIGUSR2.
TIME_LIMIT_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143} | dict.fromkeys(TIME_LIMIT_SIGNALS, 143)


class StopSignal:
    """Flag for Ctrl-C, SIGTERM or Slurm's time limit; a second Ctrl-C ends the process at once.

    As a context manager, it restores the previous handlers and signal mask.

    Attributes:
        signal: the last signal received.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process after the signal; None without one."""
        return None if self.signal is None else EXIT_CODES[signal.Signals(self.signal)]

    @property
    def name(self) -> str | None:
        """Name of the signal; None without one."""
        return None if self.signal is None else signal.Signals(self.signal).name

    def __enter__(self) -> "StopSignal":
        self._previous = {number: signal.signal(number, self._note) for number in EXIT_CODES}
        # Signals blocked until now arrive here; see `pipeline.run.slurm_requeue`.
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers again, after a library has replaced them."""
        for number in EXIT_CODES:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
