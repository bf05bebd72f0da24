"""Page of a verdict: one HTML file in the style of the report, which opens from disk without a network.

Its Content-Security-Policy allows one style and one script by their hashes, and no style attributes. All
that comes from the two models, such as their names, is escaped.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from pipeline.atomic_files import write_text
from pipeline.content_security import hashes
from pipeline.verify.checks.layer_table import find_parting
from pipeline.verify.report import between, headline, reasons
from pipeline.verify.verdict import Part, Verdict
from pipeline.verify.verdict_page.layer_rows import layer_rows
from pipeline.verify.verdict_page.picture import draw
from pipeline.verify.verdict_page.tables import number, table

FOLDER = Path(__file__).parent
REPORT_STYLE = FOLDER.parents[1] / "compare" / "report" / "report.css"
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
    "script-src {script}; style-src {style}"
)


def write_page(verdict: Verdict, path: Path) -> list[Path]:
    """Write page and picture into a folder, or to a file `….html`; return their paths."""
    page_path = path if path.suffix == ".html" else path / "verdict.html"
    picture = page_path.with_suffix(".png")
    page_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(page_path, page(verdict))
    draw(verdict, picture)
    return [page_path, picture]


def page(verdict: Verdict) -> str:
    """Return the page as text."""
    style, script = (
        _read(REPORT_STYLE) + _read(FOLDER / "verdict.css"),
        _read(FOLDER / "verdict.js"),
    )
    parting = find_parting(verdict)
    sections = dict(_sections(verdict, parting))
    content = {
        "policy": POLICY.format(script=hashes(script), style=hashes(style)),
        "title": escape(headline(verdict)),
        "style": f"<style>{style}</style>",
        "skip": "layers" if parting is None else "parts",
        "skipped": "the layers" if parting is None else "where they part",
        "answer": verdict.verdict.value,
        "sentence": escape(verdict.sentence),
        "cards": "".join(_card(*card) for card in _cards(verdict)),
        "notes": _notes(verdict),
        "links": "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in sections.items()),
        "sections": "\n".join(
            f'<section id="{name}"><h2>{title}</h2>{body}</section>'
            for name, (title, body) in sections.items()
        ),
        "script": f"<script>{script}</script>",
    }
    return re.sub(r"<!--(\w+)-->", lambda match: content[match[1]], _read(FOLDER / "verdict.html"))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _cards(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    """Yield kind, value and caption of each card."""
    if verdict.differences:
        part = max(verdict.differences, key=verdict.differences.__getitem__)
        yield "", f"{verdict.differences[part]:.0e}", f"largest difference: {part}"
    if verdict.first:
        yield "bad", verdict.first.part, "the first part that differs"
    if verdict.cause:
        confirmed = "the cause: with its remedy they are the same"
        yield "", verdict.cause.name, confirmed if verdict.cause.confirmed else "likely cause"
    checked = verdict.checked
    seeds, steps = checked.get("seeds"), checked.get("steps")
    if isinstance(seeds, Sequence) and seeds:
        yield "", str(len(seeds)), f"seeds, and {steps} steps of {checked.get('optimizer')}"
    elif "precision" in checked:
        yield "", str(steps), f"recorded steps, in {checked['precision']}"
    if verdict.layers:
        yield "", str(len(verdict.layers)), "layers with parameters"
    yield "", f"{verdict.seconds:.0f} s", "time of the check"


def _card(kind: str, value: str, caption: str) -> str:
    return f'<div class="card {kind}"><strong>{escape(value)}</strong><span>{escape(caption)}</span></div>'


def _notes(verdict: Verdict) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in verdict.notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _sections(verdict: Verdict, parting: int | None) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield identifier, title and content of each section that has any."""
    if verdict.first:
        yield "place", ("Where they part", _place(verdict))
    if verdict.layers:
        yield "layers", ("Layers", layer_rows(verdict, parting))
    if verdict.differences:
        known = [part for part in Part if part in verdict.differences]
        rows = [(part, number(verdict.differences[part])) for part in known]
        yield "differences", ("Differences", table("Differences", ("part", "largest"), rows))
    if verdict.lanes:
        yield "lanes", ("What differences come from", _lanes(verdict))
    if verdict.alignment:
        heads = ("left", "right", "transform")
        rows = [tuple(row.get(head, "") for head in heads) for row in verdict.alignment]
        yield "parameters", ("Parameters", table("Parameters", heads, rows))
    if any(verdict.unmatched.values()):
        rows = [
            (side, one.name, str(list(one.shape)), one.nearest, "yes" if one.is_used else "no")
            for side, leftovers in verdict.unmatched.items()
            for one in leftovers
        ]
        heads = ("side", "name", "shape", "nearest of the other side", "used")
        yield "unmatched", ("Without a counterpart", table("Without a counterpart", heads, rows))


def _place(verdict: Verdict) -> str:
    first, cause = verdict.first, verdict.cause
    if first is None:
        return ""
    rows = [
        ("part", first.part),
        ("left", " ".join(filter(None, (first.left, first.left_source)))),
        ("right", " ".join(filter(None, (first.right, first.right_source)))),
        ("difference", f"{first.difference:.1e}"),
    ]
    if first.step:
        rows.append(("step", str(first.step)))
    if cause:
        rows += [("cause", cause.name), ("remedy", cause.remedy)]
    return table("Where they part", ("", ""), rows)


def _lanes(verdict: Verdict) -> str:
    heads = ("what changes", "between", "in", "outputs", "bar", "gradients", "bar", "verdict")
    words = {True: "within its noise", False: "above its noise", None: "not run"}
    rows = []
    for edge in verdict.lanes:
        numbers = (edge.outputs, edge.outputs_bar, edge.gradients, edge.gradients_bar)
        rows.append(
            (edge.changes, between(edge), edge.precision, *map(number, numbers), words[edge.is_within])
        )  # fmt: skip
    texts = "".join(f"<p class='quiet'>{escape(reason)}</p>" for reason in reasons(verdict))
    return f"<p>{escape(verdict.blame)}</p>{table('Lanes', heads, rows)}{texts}"
