"""Verdict for the terminal and as JSON."""

import json
from pathlib import Path

from rich.table import Table

from pipeline.atomic_files import write_text
from pipeline.verify.verdict import Part, Verdict


def table_of_differences(verdict: Verdict) -> Table:
    """Return the largest difference of each part."""
    table = Table(title="largest differences", title_justify="left")
    table.add_column("part")
    table.add_column("relative", justify="right")
    for part in Part:
        if part in verdict.differences:
            table.add_row(str(part), f"{verdict.differences[part]:.1e}")
    return table


def write_json(path: Path, verdict: Verdict) -> None:
    """Write the verdict for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(verdict.to_json(), indent=1, ensure_ascii=False) + "\n")
