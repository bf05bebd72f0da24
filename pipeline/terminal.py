"""What is said to a person goes to the terminal and, as plain text, to the run's log."""

import logging
from io import StringIO

from rich.console import Console, RenderableType

log = logging.getLogger(__name__)

LOG_WIDTH = 100  # characters in a line of run.log


def say(text: RenderableType, **options: bool) -> None:
    """Print, with markup and colours where there is a terminal, and note in run.log.

    Hydra's logging sends notes to the file alone; warnings and errors also to the terminal.

    Args:
        text: to print.
        options: of rich's `Console.print`.
    """
    Console(highlight=False).print(text, **options)
    plain = Console(highlight=False, width=LOG_WIDTH, file=StringIO(), no_color=True)
    plain.print(text, **options)
    log.info(plain.file.getvalue().rstrip())


def say_line(text: str) -> None:
    """Print plain text as it is, in one line however long; and note it in run.log."""
    say(text, soft_wrap=True, markup=False)
