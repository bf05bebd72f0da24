"""The table of runs: in the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.compare.columns import columns, fitting
from pipeline.compare.comparison import Comparison
from pipeline.compare.conditions import conditions, lines, unlike

COLOURS = {"completed": "green", "failed": "red", "lost": "red"}  # by status; else yellow

MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "\\": "\\\\"})
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # at the start of a cell: a spreadsheet evaluates it


def terminal_table(made: Comparison, width: int) -> Table:
    """Return the runs as rows, with the columns that fit into a width in characters."""
    shown = fitting(made, width - 2)
    output = framed("comparison", [column.title for column in shown])
    for record in made.records:
        cells = [escape(column.text(record)) for column in shown]
        cells[1] = f"[{COLOURS.get(record.status, 'yellow')}]{record.status}[/]"
        output.add_row(*cells)
    return output


def seeds_table(made: Comparison) -> Table:
    """Return mean and interval over seeds or folds, a row for each setting."""
    head, *body = seeds_rows(made)
    output = framed(f"over {made.repeats}: mean ± half of the 95 % interval", head)
    for cells in body:
        output.add_row(*map(escape, cells))
    return output


def seeds_rows(made: Comparison) -> list[list[str]]:
    """Return the rows of the table over seeds or folds, the head first."""
    keys = list(dict.fromkeys(key for group in made.seeds for key in group.estimates))
    rows = [["setting", made.repeats, *keys]]
    for group in made.seeds:
        estimates = [group.estimates.get(key) for key in keys]
        cells = [estimate.short if estimate else "–" for estimate in estimates]
        rows.append([group.name or "all", str(len(group.runs)), *cells])
    return rows


def framed(title: str, head: Sequence[str]) -> Table:
    """Return an empty table in the common style."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(head[0], overflow="fold", min_width=16)
    for name in head[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def markdown(made: Comparison) -> str:
    """Return the tables, statistics and verdicts as Markdown."""
    shown = columns(made)
    lines = [row(column.title for column in shown)]
    lines.append(row("---" if column.title in ("run", "status") else "--:" for column in shown))
    lines += [row(column.text(record) for column in shown) for record in made.records]
    if made.seeds:
        head, *body = seeds_rows(made)
        lines += ["", f"**over {made.repeats}: mean ± half of the 95 % interval**", "", row(head)]
        lines += [row(["---", *("--:" for _ in head[1:])]), *map(row, body)]
    for title, sentences in findings(made).items():
        lines += ["", f"**{title}**", "", *(f"- {escape_markdown(text)}" for text in sentences)]
    return "\n".join(lines) + "\n"


def row(cells: Iterable[str]) -> str:
    """Return one row of a Markdown table."""
    return "| " + " | ".join(map(escape_markdown, cells)) + " |"


def escape_markdown(text: str) -> str:
    """Escape text for one line of Markdown: no HTML, no links, no cells of its own."""
    return " ".join(text.splitlines()).translate(MARKDOWN).replace("](", "]\\(")


def escape_formula(value: object) -> object:
    """Quote text that a spreadsheet would evaluate as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def csv_table(made: Comparison) -> str:
    """Return the table with all digits, and the folder and error of each run."""
    shown = columns(made)
    text = io.StringIO()
    output = csv.writer(text, lineterminator="\n")
    output.writerow([*(escape_formula(column.title) for column in shown), "folder", "error"])
    for record in made.records:
        values = [column.of(record) for column in shown]
        output.writerow(map(escape_formula, [*values, str(record.folder), record.result.error]))
    return text.getvalue()


def measured(made: Comparison) -> list[str]:
    """Return the conditions of the speeds, if they differ, and a sentence if that is unfair."""
    found = conditions(made.records)
    return [*lines(found), *filter(None, [unlike(found)])] if len(found) > 1 else []


def findings(made: Comparison) -> dict[str, list[str]]:
    """Return the findings as sentences under titles, without empty titles."""
    pairs = [[pair.name, pair.words] for pair in made.pairs]
    parities = [
        [str(one["folder"]), str(one.get("backends", "")), str(one.get("sentence"))]
        for one in made.parities
    ]
    effects = [[one.setting, one.key, one.words] for one in made.effects if made.seeds]
    notes = [[record.name, note] for record in made.records for note in record.notes]
    sections = {
        "the same?": [*pairs, *parities],
        f"differences between the backends, over the same {made.repeats}": effects,
        "speed: what each run used": [[line] for line in measured(made)],
        "warnings": [*([note] for note in made.notes), *notes],
    }
    return {
        title: [": ".join(filter(None, parts)) for parts in lines]
        for title, lines in sections.items()
        if lines
    }
