"""Values as text for the user, or for JSON."""

import math


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
    return getattr(value, "name", None) or str(value)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def finite(value: float | None) -> float | None:
    """Return a number, or None for NaN and infinity, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None
