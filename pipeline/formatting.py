"""Values as text for the user, or for JSON."""

import math
from collections.abc import Sequence


def format_number(value: object) -> str:
    """Format a number with four significant digits and thousands separated; a missing one as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


def format_value(value: object) -> str:
    """Format the value of a key as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    if isinstance(value, dict):
        pairs = (f"{name}:{format_value(one)}" for name, one in value.items())
        return f"{{{','.join(pairs)}}}"
    return getattr(value, "name", None) or str(value)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_numbers(numbers: Sequence[int]) -> str:
    """Return whole numbers as a list in ascending order, three or more in a row as a range: `0-7, 9, 10`."""
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if not (rows and rows[-1][-1] == number - 1):
            rows.append([])
        rows[-1].append(number)
    parts = [[f"{row[0]}-{row[-1]}"] if len(row) > 2 else [*map(str, row)] for row in rows]
    return ", ".join(part for row in parts for part in row)


def finite(value: float | None) -> float | None:
    """Return a number, or None for NaN and infinity, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None
