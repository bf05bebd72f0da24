"""The table of runs: in the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.compare.columns import columns, fitting, rows
from pipeline.compare.comparison import Comparison
from pipeline.compare.records import Record

COLOURS = {"completed": "green", "failed": "red", "lost": "red"}  # of a status; else yellow


def terminal_table(made: Comparison, width: int) -> Table:
    """The runs as rows.

    Args:
        made: the comparison.
        width: of the terminal in characters; a narrow one shows less.
    """
    first, *others = fitting(made, width - 2)
    output = framed("comparison")
    output.add_column(first.title, overflow="fold", min_width=16)
    for column in others:
        output.add_column(column.title, justify="right", no_wrap=True)
    for record in made.records:
        cells = [escape(column.text(record)) for column in others]
        cells[0] = coloured(record)
        output.add_row(escape(record.name), *cells)
    return output


def seeds_table(made: Comparison) -> Table:
    """Mean and interval over the seeds, a row for each setting."""
    head, *body = seeds_rows(made)
    output = framed("over seeds: mean ± half of the 95 % interval")
    output.add_column(head[0], overflow="fold", min_width=16)
    for title in head[1:]:
        output.add_column(title, justify="right", no_wrap=True)
    for cells in body:
        output.add_row(*map(escape, cells))
    return output


def seeds_rows(made: Comparison) -> list[list[str]]:
    """The table over the seeds as text, its head first."""
    keys = list(dict.fromkeys(key for group in made.seeds for key in group.estimates))
    rows_ = [["setting", "seeds", *keys]]
    for group in made.seeds:
        told = [group.estimates.get(key) for key in keys]
        cells = [estimate.short if estimate else "–" for estimate in told]
        rows_.append([group.name or "all", str(len(group.runs)), *cells])
    return rows_


def framed(title: str) -> Table:
    """A table as all of them look."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def coloured(record: Record) -> str:
    """A run's status in its colour."""
    return f"[{COLOURS.get(record.status, 'yellow')}]{record.status}[/]"


def markdown(made: Comparison) -> str:
    """The tables, the statistics and the verdicts, to be pasted where Markdown is read."""
    shown = columns(made)
    lines = [row(column.title for column in shown)]
    lines.append(row("---" if column.title in ("run", "status") else "--:" for column in shown))
    lines += [row(column.text(record) for column in shown) for record in made.records]
    if made.seeds:
        head, *body = seeds_rows(made)
        lines += ["", "**over seeds: mean ± half of the 95 % interval**", "", row(head)]
        lines += [row(["---", *("--:" for _ in head[1:])]), *map(row, body)]
    for title, sentences in findings(made).items():
        lines += ["", f"**{title}**", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def row(cells: Iterable[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def csv_table(made: Comparison) -> str:
    """The table with all digits, the folder and the error of each run beside it."""
    shown = columns(made)
    text = io.StringIO()
    output = csv.writer(text, lineterminator="\n")
    output.writerow([*(column.title for column in shown), "folder", "error"])
    for record, values in zip(made.records, rows(made, shown), strict=True):
        output.writerow([*values, record.folder, record.result.get("error")])
    return text.getvalue()


def findings(made: Comparison) -> dict[str, list[str]]:
    """What the comparison comes to, in sentences under titles; without what there is nothing to say of."""
    told = {
        "the same?": [f"{head(pair.name)}{pair.words}" for pair in made.pairs]
        + [f"{found['folder']}: {found.get('sentence')}" for found in made.parities],
        "one backend against the other, over the same seeds": [
            f"{head(effect.setting)}{effect.key}: {effect.words}"
            for effect in made.effects
            if made.seeds
        ],
        "to note": [*made.notes]
        + [f"{record.name}: {note}" for record in made.records for note in record.notes],
    }
    return {title: sentences for title, sentences in told.items() if sentences}


def head(name: str) -> str:
    """What a sentence is of, before it."""
    return f"{name}: " if name else ""
