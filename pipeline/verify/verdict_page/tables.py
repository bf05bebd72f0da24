"""Tables of the verdict's page, in the style of the report."""

from collections.abc import Iterable, Sequence
from html import escape

MANY = 25  # rows of a table from which on it scrolls


def table(label: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of texts, which are escaped; without titles of columns, if all are empty."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads) if any(heads) else ""
    made = [
        f'<tr><th scope="row" class="name">{escape(str(first))}</th>'
        + "".join(f'<td class="wide">{escape(str(cell))}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    return box(label, head, made)


def box(label: str, head: str, rows: Sequence[str]) -> str:
    """Return a table in a box that scrolls, also by the keyboard."""
    kind = "box tall" if len(rows) > MANY else "box"
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def number(value: float | None) -> str:
    """Return a difference; a dash if there is none."""
    return "–" if value is None else f"{value:.1e}"
