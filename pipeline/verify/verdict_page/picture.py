"""Picture of a verdict: the layers in order, and by how much they differ forward and backward."""

from pathlib import Path

import numpy as np

from pipeline.verify.checks.layer_table import TOLERANCE, find_parting
from pipeline.verify.report import headline
from pipeline.verify.verdict import LayerDifference, Verdict

# Exponents of the differences that are shown; smaller and larger ones at the edge.
LOW, HIGH = -17, 2
LONGEST = 44  # name of a layer


def draw(verdict: Verdict, path: Path) -> None:
    """Plot the differences of each layer, first layer on top, and mark where the two part."""
    from matplotlib.figure import Figure

    rows, parting = verdict.layers, find_parting(verdict)
    figure = Figure(figsize=(9, max(2.5, 0.26 * len(rows) + 1.6)), layout="constrained")
    axes = figure.subplots()
    if parting is not None:
        axes.axhspan(parting - 0.5, parting + 0.5, color="#d62728", alpha=0.15, label="they part")
    for name, marker, colour in (("forward", "o", "#0072b2"), ("backward", "D", "#d55e00")):
        values = {at: getattr(row, name) for at, row in enumerate(rows)}
        known = {at: value for at, value in values.items() if value is not None}
        # A logarithmic axis has neither zero nor infinity.
        shown = np.clip([*known.values()], 10.0**LOW, 10.0**HIGH)
        axes.plot(shown, [*known], marker, color=colour, markersize=5, label=name)
    axes.axvline(TOLERANCE, color="black", linewidth=0.8, linestyle="--", label="rounding is below")
    axes.set(xscale="log", xlim=(10.0**LOW / 3, 10.0**HIGH * 3), ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlabel("relative difference")
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=7)
    axes.grid(axis="x", linewidth=0.4)
    figure.suptitle(_plain(_shortened(headline(verdict), 100)), fontsize=10)
    figure.legend(loc="outside lower center", fontsize="small", ncols=4)
    figure.savefig(path, dpi=150)


def _label(row: LayerDifference) -> str:
    names = [_shortened(name, LONGEST) for name in dict.fromkeys((row.left, row.right))]
    return _plain(" · ".join(names))


def _shortened(text: str, longest: int) -> str:
    """Cut a text in its middle: the ends of a layer's name tell most."""
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def _plain(text: str) -> str:
    """Escape what Matplotlib takes for formulas."""
    return text.replace("$", r"\$")
