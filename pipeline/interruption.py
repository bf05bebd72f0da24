"""Being asked to stop: a flag, read at the next step boundary by both backends alike.

Saving inside a signal handler can corrupt the file, so the handler only notes the signal.
"""

import signal
from types import FrameType, TracebackType

# Slurm warns of a time limit by the signal that a job asks for, by convention one of SIGUSR1 and 2.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143} | dict.fromkeys(WARNINGS, 143)


class Interruption:
    """Ctrl-C, SIGTERM or a warning of Slurm's, as a flag; a second Ctrl-C ends the process at once.

    Used as a context manager, which puts the former handlers (and what was held back) back.

    Attributes:
        signal: the last that came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._former: dict[int, object] = {}

    @property
    def exit_code(self) -> int | None:
        """That the process will end with, if it was asked to stop."""
        return None if self.signal is None else EXIT_CODES[signal.Signals(self.signal)]

    @property
    def name(self) -> str | None:
        """Of the signal that came."""
        return None if self.signal is None else signal.Signals(self.signal).name

    def __enter__(self) -> "Interruption":
        self._former = {number: signal.getsignal(number) for number in EXIT_CODES}
        self.install()
        # What was held back until now is noted here; see `pipeline.requeue`.
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, EXIT_CODES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals; again where a library has taken them meanwhile."""
        for number in EXIT_CODES:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
