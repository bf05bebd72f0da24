"""Table of an alignment for the terminal: one line for a layer that is repeated in every block."""

import re
from collections.abc import Iterable, Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.verify.names.notation import Shape
from pipeline.verify.names.rows import Row

Tokens = tuple[str, ...]  # text, number, text, number, … of a row's texts in one
CELLS = "\n"  # between the texts
MOST_NUMBERS = 12  # of an explicit order that is shown whole


def alignment_table(
    rows: Iterable[Row],
    left_alone: Iterable[tuple[str, Shape]] = (),
    right_alone: Iterable[tuple[str, Shape]] = (),
) -> Table:
    """Return the rows, and the blocks that one side has alone, with their shapes."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("left", "right", "transform"):
        shown.add_column(column, overflow="fold")
    for row in collapse_rows(rows):
        shown.add_row(escape(row.left), escape(row.right), escape(shortened(row.transform)))
    alone = [Row(name, "–", str([*shape])) for name, shape in left_alone]
    alone += [Row("–", name, str([*shape])) for name, shape in right_alone]
    for row in collapse_rows(alone):
        cells = row.left, row.right, f"alone, {row.transform}"
        shown.add_row(*(f"[yellow]{escape(cell)}[/]" for cell in cells))
    return shown


def collapse_rows(rows: Iterable[Row]) -> list[Row]:
    """Join rows that differ only in numbers that count up.

    `layer.0.w` and `layer.1.w` become `layer.{0..1}.w`; `{0..4..2}` are 0, 2 and 4.
    """
    tokens = [_split(CELLS.join((row.left, row.right, row.transform))) for row in rows]
    while (joined := _join(tokens)) is not None:
        tokens = joined
    return [Row(*"".join(row).split(CELLS)) for row in tokens]


def _split(text: str) -> Tokens:
    return tuple(re.split(r"(\d+)", text))


def _join(rows: list[Tokens]) -> list[Tokens] | None:
    """Join rows along the counter that joins the most; None if there is none."""
    first: dict[Tokens, Tokens] = {}  # rows by their text without numbers
    counters = set()
    for row in rows:
        other = first.setdefault(row[::2], row)
        if row is not other:
            counters.add(tuple(at for at in range(1, len(row), 2) if row[at] != other[at]))
    best = min((_join_along(rows, places) for places in sorted(counters)), key=len, default=rows)
    return best if len(best) < len(rows) else None


def _join_along(rows: list[Tokens], places: tuple[int, ...]) -> list[Tokens]:
    """Join the rows that differ in the numbers at these places alone."""
    groups: dict[Tokens, list[Tokens]] = {}
    for row in rows:
        is_counted = max(places) < len(row) and all(row[at].isdecimal() for at in places)
        key = tuple("" if at in places else part for at, part in enumerate(row))
        groups.setdefault(key if is_counted else row, []).append(row)
    joined = []
    for group in groups.values():
        runs = _runs(group, places) if len(group) > 1 else [group]
        joined += [run[0] if len(run) == 1 else _ranged(run, places) for run in runs]
    return joined


def _runs(group: list[Tokens], places: tuple[int, ...]) -> Iterator[list[Tokens]]:
    """Sort rows by their numbers, and divide them where those do not go on by equal steps."""

    def steps(before: Tokens, after: Tokens) -> list[int]:
        return [int(after[at]) - int(before[at]) for at in places]

    first, *rest = sorted(group, key=lambda row: [int(row[at]) for at in places])
    run = [first]
    for row in rest:
        if 0 in steps(run[-1], row) or steps(run[-1], row) != steps(*[*run, row][:2]):
            yield run
            run = []
        run.append(row)
    yield run


def _ranged(run: list[Tokens], places: tuple[int, ...]) -> Tokens:
    """Return the row that stands for a run."""
    row = list(run[0])
    for at in places:
        first, second, last = (int(run[n][at]) for n in (0, 1, -1))
        step = f"..{second - first}" if second - first != 1 else ""
        row[at] = f"{{{first}..{last}{step}}}"
    return tuple(row)


def shortened(transform: str) -> str:
    """Return a transform with only the first numbers of a long order."""

    def first(found: re.Match) -> str:
        numbers = found[1].split(", ")
        return (
            f"[{', '.join(numbers[:MOST_NUMBERS])}, …]" if len(numbers) > MOST_NUMBERS else found[0]
        )

    return re.sub(r"\[([^\]]*)\]", first, transform)
