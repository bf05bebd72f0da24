"""The page: a table for each family of rows, and its comparison with fresh measurements."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.differences.measure import TORCH, Cell, Measured, is_same
from benchmarks.differences.row import OTHERS, SAME, Row

COMMAND = "python -m benchmarks.differences"
ANCHOR = re.compile(r'^\| <a id="([^"]+)"></a>')
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")

Family = Mapping[Row, Mapping[str, Cell]]  # what was measured of each row


@dataclass(frozen=True)
class Change:
    """A row of which the page says something else than was measured now."""

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


def page(families: Mapping[str, Family], versions: Mapping[str, str]) -> str:
    """Render the page in Markdown."""
    cells = [
        (row, cell)
        for family in families.values()
        for row, by in family.items()
        for cell in by.values()
    ]
    rows = sum(map(len, families.values()))
    loosest = max(row.same for family in families.values() for row in family)
    apart = {row for row, cell in cells if not is_same(row, cell.default)}
    closed = {row for row, cell in cells if row in apart and cell.closing}
    lines = [
        "# Differences between the frameworks",
        "",
        f"Measured with {', '.join(f'{name} {version}' for name, version in versions.items())}, in float64, "
        f"by `{COMMAND}`, which writes this page; `--check` compares it with fresh measurements.",
        "",
        "A number is the largest difference from torch with equal weights and inputs, relative to the root "
        "mean square of the result, over a few seeds and shapes; it is bold if it is more than rounding "
        f"(above {_number(SAME)}; up to {_number(loosest)} in rows about random or float32 numbers).",
        "After an arrow stands what is left of it with the arguments, or the code, before the arrow; "
        "`torch:` says that torch's side is the one to change.",
        "All code is what was measured, and each row has an anchor, such as "
        "`differences.md#gelu-approximation`.",
        "",
        f"In {len(apart)} of {rows} rows a default differs, in {len(closed)} of these something closes it.",
    ]
    for name, family in families.items():
        lines += ["", f"## {name}", "", *_table(family)]
    return "\n".join(lines) + "\n"


def changes(
    written: str, fresh: str, rows: Mapping[str, Row], complete: bool = True
) -> Iterator[Change]:
    """Yield the rows that differ between the page as it is written and as it is measured now.

    Numbers may differ by a factor, and those of rounding as they like; all else must be equal.

    Args:
        written: the page in the repository.
        fresh: the page as measured now.
        rows: all rows, by key.
        complete: False if Equinox is not installed: its cells are skipped.
    """
    old, new = _lines(written), _lines(fresh)
    for key in old | new:
        if key not in old:
            yield Change(key, "is not on the page")
        elif key not in new:
            yield Change(key, "is on the page, but was not measured: there is no such row")
        else:
            for column in old[key] | new[key]:
                before, now = old[key].get(column, ""), new[key].get(column, "")
                skipped = column == OTHERS["equinox"] and not complete
                same = before == now if column == "title" else _alike(before, now, rows[key])
                if not skipped and not same:
                    yield Change(key, f"{column}: the page says {before}, measured: {now}")


def _table(family: Family) -> Iterator[str]:
    columns = [name for name in OTHERS if any(getattr(row, name) for row in family)]
    yield f"| | torch | {' | '.join(OTHERS[name] for name in columns)} |"
    yield "|---" * (len(columns) + 2) + "|"
    for row, by in family.items():
        cells = [_cell(row, by[name]) if name in by else "" for name in columns]
        yield f'| <a id="{row.key}"></a>{row.title} | {_code(row.torch)} | {" | ".join(cells)} |'


def _cell(row: Row, cell: Cell) -> str:
    parts = [_code(cell.code), _verdict(row, cell.default)]
    if cell.closing:
        closing = cell.closing.removeprefix(TORCH)
        side = TORCH if closing != cell.closing else ""
        parts.append(f"{side}{_code(closing)} → {_verdict(row, cell.closed)}")
    return "<br>".join(parts)


def _verdict(row: Row, measured: Measured) -> str:
    text = measured if isinstance(measured, str) else _number(measured)
    return text if is_same(row, measured) else f"**{text}**"


def _number(value: float) -> str:
    """A difference to two digits, one of rounding to one: `0.31`, `4.7e-4`, `2e-16`."""
    if value == 0:
        return "0"
    text = f"{value:.0e}" if value <= SAME else f"{value:.1e}" if value < 0.01 else f"{value:.2g}"
    return re.sub(r"e([+-])0(\d)", r"e\1\2", text)


def _code(text: str) -> str:
    assert "|" not in text, f"{text} would end a cell of the table"
    return f"`{text}`"


def _lines(text: str) -> dict[str, dict[str, str]]:
    """Cells of each row by column, by the row's key."""
    found, columns = {}, [""]
    for line in text.splitlines():
        cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
        if line.startswith("| | torch |"):
            columns = ["title", *(name.strip() for name in line.split("|")[2:-1])]
        elif match := ANCHOR.match(line):
            found[match[1]] = dict(zip(columns, cells, strict=True))
    return found


def _alike(before: str, now: str, row: Row) -> bool:
    """Tell if two cells have the same code and verdicts, and numbers of one order of magnitude."""
    if _without_numbers(before) != _without_numbers(now):
        return False
    pairs = list(zip(_numbers(before), _numbers(now), strict=True))
    return all(
        max(pair) <= row.same or (min(pair) > row.same and max(pair) / min(pair) <= row.factor)
        for pair in pairs
    )


def _outside_code(cell: str) -> list[str]:
    return cell.split("`")[::2]


def _numbers(cell: str) -> list[float]:
    return [float(number) for text in _outside_code(cell) for number in NUMBER.findall(text)]


def _without_numbers(cell: str) -> list[str]:
    """A cell with its measured numbers taken out; those in code, and in titles, stay."""
    parts = cell.split("`")
    return [part if at % 2 else NUMBER.sub("…", part) for at, part in enumerate(parts)]
