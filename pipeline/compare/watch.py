"""`--watch`: the comparison of runs that go on, anew every few seconds."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.compare import Files, compare, write
from pipeline.compare.comparison import Comparison, comparison
from pipeline.compare.curves import Target
from pipeline.compare.table import terminal_table
from pipeline.errors import UserError
from pipeline.runs import SWEEP, another_at_work, read_json

FACTOR = 10  # so much longer than it takes to look is the pause until the next look


def watch(
    paths: Sequence[Path],
    files: Files,
    every: float,
    target: Target | None = None,
    price: float | None = None,
) -> Comparison:
    """Show runs until all have ended, then compare them once more for good.

    On a terminal the table is drawn over; elsewhere a line tells how many run. The page is written each
    time, and reads itself again where it is open.

    Args:
        paths: of runs, sweeps, or folders of them.
        files: where to write.
        every: seconds between two looks.
        target: see `compare`.
        price: see `compare`.

    Raises:
        UserError: the pause is no time, or there is no run.
    """
    if not every > 0:
        raise UserError("--watch", every, "seconds above 0")
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            began = time.monotonic()
            made = comparison(paths, target, price)
            running = sum(record.status == "running" for record in made.records)
            if not running and not any(map(sweeping, paths)):
                break
            [page] = write(made, replace(files, figures=False, refresh=every))
            line = f"{running} of {len(made.records)} run  →  {page}"
            if console.is_terminal:
                live.update(Group(terminal_table(made, console.width), Text(line)), refresh=True)
            else:
                console.print(line, soft_wrap=True)
            time.sleep(max(every, FACTOR * (time.monotonic() - began)))
    return compare(paths, files, target, price)


def sweeping(path: Path) -> bool:
    """Whether a sweep at or below a folder goes on: between two of its jobs none runs."""
    return any(another_at_work(read_json(file) or {}) for file in path.glob(f"**/{SWEEP}"))
