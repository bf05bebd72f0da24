"""`--watch`: the comparison of running runs, refreshed every few seconds."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.atomic_files import read_json
from pipeline.compare import Files, compare, write
from pipeline.compare.comparison import comparison
from pipeline.compare.curves import Target
from pipeline.compare.table import terminal_table
from pipeline.config.fields import require
from pipeline.storage.run_folder import SWEEP, files_below
from pipeline.storage.run_identity import ProcessIdentity

FACTOR = 10  # the pause is at least this many times as long as a refresh


def watch(
    paths: Sequence[Path], files: Files, every: float, target: Target | None, price: float | None
) -> None:
    """Show runs until all have ended, then compare them; `every` is in seconds.

    A terminal shows the table; otherwise each refresh prints a line. The page is written at each refresh,
    and reloads where it is open.
    """
    require(every > 0, "--watch", every, "seconds above 0")
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            began = time.monotonic()
            made = comparison(paths, target, price)
            running = sum(record.status == "running" for record in made.records)
            if not running and not any(map(is_sweep_running, paths)):
                break
            [page] = write(made, replace(files, figures=False, refresh=every))
            count = f"{running} of {len(made.records)} running"
            line = f"{count}, refreshes every {every:g} s  →  {page}"
            if console.is_terminal:
                live.update(Group(terminal_table(made, console.width), Text(line)), refresh=True)
            else:
                console.print(line, soft_wrap=True)
            time.sleep(max(every, FACTOR * (time.monotonic() - began)))
    compare(paths, files, target, price)


def is_sweep_running(path: Path) -> bool:
    """Return whether a sweep at or below a folder is running, even if none of its jobs is."""
    known = (read_json(file) or {} for file in files_below(path, SWEEP))
    return any(ProcessIdentity.from_json(process).is_running_elsewhere for process in known)
