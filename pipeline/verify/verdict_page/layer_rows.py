"""Layers on the verdict's page: their names and differences, and a scale with both in each row."""

from html import escape
from math import log10

from pipeline.verify.checks.layer_table import TOLERANCE
from pipeline.verify.verdict import Answer, LayerDifference, Verdict
from pipeline.verify.verdict_page.picture import HIGH, LOW
from pipeline.verify.verdict_page.tables import box, number

WIDTH, HEIGHT, EDGE = 260, 16, 8  # of the scale
LABELS = [10.0**exponent for exponent in range(-15, HIGH, 5)]
KEYS = {"forward": "forward: the result", "backward": "backward: the gradients"}
HEADS = ("left", "right", "data", "forward", "backward")


def layer_rows(verdict: Verdict, parting: int | None) -> str:
    """Return the layers in the order of execution; `parting` is the row where the two part."""
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 12 12" aria-hidden="true">{_mark(name, 6, 6)}</svg>'
        f"{words}</span>"
        for name, words in KEYS.items()
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADS)
    scale = (
        f'<svg class="scale" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{_labels()}</svg>'
    )
    judged = verdict.verdict is Answer.part
    rows = [_row(row, at == parting, judged) for at, row in enumerate(verdict.layers)]
    return f'<p class="quiet">Relative differences in the order of execution. {keys}</p>' + box(
        "Layers", f'{head}<th scope="col" class="picture">{scale}</th>', rows
    )


def _row(row: LayerDifference, is_parting: bool, judged: bool) -> str:
    """Return a row; differences are marked if the verdict is that the two part."""
    values = [row.data, row.forward, row.backward]
    wrong = [judged and (value or 0.0) > TOLERANCE for value in values]
    cells = "".join(
        f'<td class="number{" bad" if is_wrong else ""}">{number(value)}</td>'
        for value, is_wrong in zip(values, wrong, strict=True)
    )
    marks = "".join(
        _mark(name, _x(value), HEIGHT / 2)
        for name, value in (("forward", row.forward), ("backward", row.backward))
        if value is not None
    )
    start = '<tr id="parts" class="parts"' if is_parting else "<tr"
    where = "before it" if wrong[0] else "here"
    here = f'<span class="here">they part {where}</span>' if is_parting else ""
    return (
        f'{start} data-differs="{"yes" if any(wrong) else "no"}">'
        f'<th scope="row" class="name">{escape(row.left)}{here}</th>'
        f'<td class="wide">{escape(row.right)}</td>{cells}'
        f'<td class="picture"><svg class="scale" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f"{_grid()}{marks}</svg></td></tr>"
    )


def _x(value: float) -> float:
    """Return the place of a difference on the logarithmic scale; what is beyond it, at its edge."""
    exponent = min(HIGH, max(LOW, log10(value) if value > 0 else LOW))
    return round(EDGE + (exponent - LOW) / (HIGH - LOW) * (WIDTH - 2 * EDGE), 1)


def _grid() -> str:
    lines = [*((value, "") for value in LABELS), (TOLERANCE, "limit")]
    return "".join(
        f'<line class="{kind}" x1="{_x(value)}" x2="{_x(value)}" y1="0" y2="{HEIGHT}"/>'
        for value, kind in lines
    )


def _labels() -> str:
    return "".join(
        f'<text x="{_x(value)}" y="12" text-anchor="middle">{value:.0e}</text>' for value in LABELS
    )


def _mark(name: str, x: float, y: float) -> str:
    """Return a circle forward, a diamond backward: told apart without their colours."""
    if name == "forward":
        return f'<circle class="forward" cx="{x}" cy="{y}" r="4"/>'
    return f'<path class="backward" d="M{x} {y - 5}l5 5l-5 5l-5 -5z"/>'
