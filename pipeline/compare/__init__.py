"""The answer to a sweep: a table, statistics over seeds, one page with curves, and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.compare.comparison import Comparison, comparison
from pipeline.compare.curves import Target
from pipeline.compare.page import write_page
from pipeline.compare.records import Record
from pipeline.compare.table import csv_table, findings, markdown, seeds_table, terminal_table
from pipeline.errors import UserError
from pipeline.runs import write_text

__all__ = ["Comparison", "Files", "Record", "compare", "show", "write"]

WIDE = 160  # columns where there is no terminal, and so no edge to wrap at
LISTED = 8  # sentences under a title, and folders; of more there is the page


@dataclass(frozen=True)
class Files:
    """Where a comparison is written.

    Args:
        folder: that takes `report.html`, `comparison.md` and `comparison.csv`.
        figures: whether to draw PNG and SVG, too.
        refresh: seconds after which an open page reads itself again; None: it does not.
    """

    folder: Path
    figures: bool = False
    refresh: float | None = None


def compare(
    paths: Sequence[Path],
    files: Files,
    target: Target | None = None,
    price: float | None = None,
) -> Comparison:
    """Compare all runs at or below some folders; show what comes of it and write it down.

    Args:
        paths: of runs, sweeps, or folders of them.
        files: where to.
        target: a value whose first time is told; None takes the best that all runs have reached.
        price: of an hour on one device.

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
    """Print the table, what it comes to, and the folders and errors of the runs."""
    console.print(terminal_table(made, console.width))
    if made.seeds:
        console.print(seeds_table(made))
    for title, sentences in findings(made).items():
        console.print(f"[bold]{title}[/]")
        for sentence in sentences[:LISTED]:
            console.print(f"  {escape(sentence)}", soft_wrap=True)
        if len(sentences) > LISTED:
            console.print(f"  and {len(sentences) - LISTED} more, on the page")
    listed = made.records if len(made.records) <= LISTED else []
    for record in made.records:
        error = record.result.get("error")
        if record in listed or error:
            console.print(f"{escape(record.name)}  →  {escape(str(record.folder))}", soft_wrap=True)
        if error:
            console.print(f"  [red]{escape(str(error))}[/]", soft_wrap=True)


def write(made: Comparison, files: Files) -> list[Path]:
    """Write the page, the tables and, if asked, the pictures; their paths, the page first.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = files.folder
    page = folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_page(made, page, files.refresh)
        write_text(folder / "comparison.md", markdown(made))
        write_text(folder / "comparison.csv", csv_table(made))
        if not files.figures:
            return [page]
        from pipeline.compare.figures import draw_all  # matplotlib takes half a second

        return [page, *draw_all(made, folder / "figures")]
    except OSError as error:
        raise UserError(
            "--to",
            folder,
            f"a folder that can be written ({error.strerror})",
            "Free some space, or choose another with --to FOLDER.",
        ) from error
