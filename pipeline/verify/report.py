"""Verdict for the terminal and as JSON."""

import json
from pathlib import Path

from rich import box
from rich.table import Table

from pipeline.atomic_files import write_text
from pipeline.verify.verdict import Answer, LaneEdge, Part, Verdict

TITLES = {Answer.same: "The same", Answer.part: "They part", Answer.abstain: "No verdict"}


def headline(verdict: Verdict) -> str:
    """Return the verdict in a few words, with the place where the two part."""
    first = verdict.first
    return TITLES[verdict.verdict] + (f": {first.part}, {first.left}" if first else "")


def table_of_differences(verdict: Verdict) -> Table:
    """Return the largest difference of each part."""
    table = Table(title="largest differences", title_justify="left")
    table.add_column("part")
    table.add_column("relative", justify="right")
    for part in Part:
        if part in verdict.differences:
            table.add_row(str(part), f"{verdict.differences[part]:.1e}")
    return table


def table_of_lanes(verdict: Verdict) -> Table:
    """Return the differences of lanes, outputs and gradients: one row for each thing that changes."""
    precisions = list(dict.fromkeys(edge.precision for edge in verdict.lanes))
    table = Table(title="outputs, gradients", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("what changes", min_width=30)
    for precision in precisions:
        table.add_column(precision, justify="right", no_wrap=True)
    for changes in dict.fromkeys(edge.changes for edge in verdict.lanes):
        edges = {edge.precision: edge for edge in verdict.lanes if edge.changes == changes}
        cells = [_cell(edges[p]) if p in edges else "" for p in precisions]
        table.add_row(f"{changes}: {between(next(iter(edges.values())))}", *cells)
    return table


def between(edge: LaneEdge) -> str:
    """Return the two ways to run a model; of one way, in another precision, how it is run."""
    way, _, precision = edge.other.rpartition(" ")
    return way if precision == edge.precision else f"{edge.one} – {edge.other}"


def _cell(edge: LaneEdge) -> str:
    if edge.outputs is None or edge.gradients is None:
        return "[yellow]not run[/]"
    colour = "green" if edge.is_within else "red"
    return f"[{colour}]{edge.outputs:.0e}, {edge.gradients:.0e}[/]"


def reasons(verdict: Verdict) -> list[str]:
    """Return why lanes were not run, or are above their noise, or are judged by another's."""
    found = []
    for edge in verdict.lanes:
        start = f"{edge.changes}, {edge.precision}: "
        if edge.is_within is False:
            bars = f"{edge.outputs_bar:.0e}, {edge.gradients_bar:.0e}"
            found.append(f"{start}above its noise ({bars}): {edge.reason}")
        elif edge.reason:
            found.append(start + edge.reason)
    return found


def write_json(path: Path, verdict: Verdict) -> None:
    """Write the verdict for programs."""
    write_text(path, json.dumps(verdict.to_json(), indent=1, ensure_ascii=False) + "\n")
