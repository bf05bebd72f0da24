"""Output for the user: to the terminal and, as plain text, to the run's log."""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType

log = logging.getLogger(__name__)

LOG_WIDTH = 100  # characters in a line of run.log


class SteadyStream:
    """A standard stream that ignores a closed reader or a full disk, so that neither ends the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if the stream still accepts it."""
        with self._without_failing():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if the stream still accepts it."""
        with self._without_failing():
            self._stream.flush()

    @contextmanager
    def _without_failing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if self._stream is not sys.__stderr__ and log.hasHandlers():  # Hydra has set up run.log
                print(f"no more output ({error.strerror}); the run continues", file=sys.stderr)


def protect_streams() -> None:
    """Make printing safe: closed streams are discarded, unknown characters replaced."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed from the start
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        stream.reconfigure(errors="replace")
        setattr(sys, name, SteadyStream(stream))


def print_and_log(text: RenderableType, *, soft_wrap: bool = False, markup: bool = True) -> None:
    """Print, with markup and colours on a terminal, and write the text to run.log.

    Hydra's logging sends this text to the file alone; warnings and errors also to the terminal.
    `soft_wrap` keeps a line whole, however long; `markup` interprets rich's markup.
    """
    Console(highlight=False).print(text, soft_wrap=soft_wrap, markup=markup)
    lines = StringIO()
    plain = Console(highlight=False, width=LOG_WIDTH, file=lines, no_color=True)
    plain.print(text, soft_wrap=soft_wrap, markup=markup)
    log.info(lines.getvalue().rstrip())


def say_line(text: str) -> None:
    """Print plain text without markup on one line, however long, and write it to run.log."""
    print_and_log(text, soft_wrap=True, markup=False)
