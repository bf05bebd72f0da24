"""Comparison of runs: a table, statistics over seeds, one page with curves, and plots as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.atomic_files import write_text
from pipeline.compare.comparison import Comparison, comparison
from pipeline.compare.curves import Target
from pipeline.compare.report.page import write_page
from pipeline.compare.table import csv_table, findings, markdown, seeds_table, terminal_table
from pipeline.errors import UserError

WIDE = 160  # columns without a terminal
LISTED = 8  # printed sentences per title, and most runs for which all folders are printed


@dataclass(frozen=True)
class Files:
    """Output files of a comparison."""

    folder: Path  # of `report.html`, `comparison.md` and `comparison.csv`
    figures: bool = False  # also draw plots as PNG and SVG
    refresh: float | None = None  # seconds after which an open page reloads; None: never


def compare(
    paths: Sequence[Path], files: Files, target: Target | None = None, price: float | None = None
) -> Comparison:
    """Compare all runs at or below some folders, print the comparison and write it to files.

    See `Comparison` for `target` and `price`.

    Raises:
        UserError: there is no run, or the folder cannot be written.
    """
    made = comparison(paths, target, price)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    show(made, console)
    for path in write(made, files):
        console.print(f"→  {escape(str(path))}", soft_wrap=True)
    return made


def show(made: Comparison, console: Console) -> None:
    """Print the tables, the findings, and the folders and errors of the runs."""
    console.print(terminal_table(made, console.width))
    if made.seeds:
        console.print(seeds_table(made))
    for title, sentences in findings(made).items():
        console.print(f"[bold]{title}[/]")
        for sentence in sentences[:LISTED]:
            console.print(f"  {escape(sentence)}", soft_wrap=True)
        if len(sentences) > LISTED:
            console.print(f"  and {len(sentences) - LISTED} more, on the page")
    for record in made.records:
        error = record.result.error
        if error or len(made.records) <= LISTED:
            console.print(f"{escape(record.name)}  →  {escape(str(record.folder))}", soft_wrap=True)
        if error:
            console.print(f"  [red]{escape(error)}[/]", soft_wrap=True)


def write(made: Comparison, files: Files) -> list[Path]:
    """Write the page, the tables and, if asked for, the plots; return the paths, the page first."""
    folder = files.folder
    page = folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_page(made, page, files.refresh)
        write_text(folder / "comparison.md", markdown(made))
        write_text(folder / "comparison.csv", csv_table(made))
        if not files.figures:
            return [page]
        from pipeline.compare.figures import draw_all  # late: matplotlib takes half a second

        return [page, *draw_all(made, folder / "figures")]
    except OSError as error:
        raise UserError(
            "--to",
            folder,
            problem=f"this folder cannot be written: {error.strerror}",
            hint="Free some space, or choose another with --to FOLDER.",
        ) from error
