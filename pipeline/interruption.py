"""Being asked to stop: a flag, read at the next step boundary by both backends alike.

Saving inside a signal handler can corrupt the file, so the handler only notes the signal.
"""

import signal
from types import FrameType, TracebackType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interruption:
    """Ctrl-C or SIGTERM, as a flag; a second Ctrl-C ends the process at once.

    Used as a context manager, which puts the former handlers back.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        self._former = {number: signal.getsignal(number) for number in EXIT_CODES}
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals; again where a library has taken them meanwhile."""
        for number in EXIT_CODES:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.exit_code = EXIT_CODES[signal.Signals(number)]
