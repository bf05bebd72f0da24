"""The plots of the page as files for papers and slides, PNG and SVG: `--figures`."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.backends import BACKENDS
from pipeline.compare.columns import PARTS
from pipeline.compare.comparison import Comparison
from pipeline.compare.naming import alike
from pipeline.compare.records import Record
from pipeline.predictions import Predictions, read_predictions

# Told apart by everybody, and in print (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")  # of the backends, in their order

NAMED = 20  # runs or classes, at the most, that a legend or an axis names
SHORT = 3  # letters of a class that fit side by side
DPI = 150


def draw_all(made: Comparison, folder: Path) -> list[Path]:
    """Draw everything there is to draw of a comparison; the files.

    Args:
        made: the comparison.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Text stays text in an SVG; no date, so that the same figures are the same files.
    written = []
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tandem"}):
        for name, figure in figures(made):
            for kind in ("png", "svg"):
                path = folder / f"{name}.{kind}"
                metadata = {"Date": None} if kind == "svg" else {}
                figure.savefig(path, dpi=DPI, metadata=metadata)
                written.append(path)
    return written


def figures(made: Comparison) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name."""
    keys = dict.fromkeys(key for record in made.records for key in record.reading.curves)
    for key in keys:
        if not key.startswith("test/"):
            yield f"curve-{key.replace('/', '-')}", curves(made, key)
    for key in dict.fromkeys(key for pair in made.pairs for key in pair.gaps):
        yield f"difference-{key.replace('/', '-')}", differences(made, key)
    if any(record.result.get("throughput") for record in made.records):
        yield "speed", bars(made, "throughput", "training samples per second")
    if any(record.result.get("peak_memory_mb") for record in made.records):
        yield "memory", bars(made, "peak_memory_mb", "peak memory in MB")
    if any(record.part("seconds") for record in made.records):
        yield "time", times(made)
    if len(made.varied) > 1:
        yield "coordinates", coordinates(made)
    for record in made.records:
        if found := read_predictions(record.folder):
            yield f"confusion-{record.folder.name}", confusion(record, found)


def curves(made: Comparison, key: str) -> Figure:
    """What all runs logged of a key, over the steps."""
    figure, axes = frame("step", key)
    for record, style in zip(made.records, styles(made), strict=True):
        if curve := record.reading.curves.get(key):
            axes.plot(curve.step, curve.value, label=record.name, linewidth=1.2, **style)
    if key.endswith("loss") and smallest(made, key) > 0:
        axes.set_yscale("log")
    explain(axes)
    return figure


def differences(made: Comparison, key: str) -> Figure:
    """How far the backends are apart in a key, over the steps."""
    figure, axes = frame("step", "relative difference")
    axes.set_title(f"{key}: between the backends", fontsize="medium")
    for number, pair in enumerate(made.pairs):
        if found := pair.gaps.get(key):
            # A logarithmic axis has no room for "the same to the last bit": a gap in the line.
            shown = np.where(found.curve.value > 0, found.curve.value, np.nan)
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(found.curve.step, shown, label=pair.name or "pair", color=colour, linewidth=1)
    axes.set_yscale("log")
    explain(axes)
    return figure


def bars(made: Comparison, key: str, words: str) -> Figure:
    """A value of each run's result."""
    figure, axes = frame(words, "", height=bar_height(made))
    values = [record.result.get(key) or 0.0 for record in made.records]
    colours = [style["color"] for style in styles(made)]
    axes.barh(range(len(values)), values, color=colours)
    name_rows(axes, made)
    return figure


def times(made: Comparison) -> Figure:
    """What each run spent its time on."""
    figure, axes = frame("seconds", "", height=bar_height(made))
    left = np.zeros(len(made.records))
    for part, colour in zip(PARTS, COLOURS, strict=False):
        values = np.array([record.part("seconds").get(part) or 0.0 for record in made.records])
        axes.barh(range(len(values)), values, left=left, label=part, color=colour)
        left += values
    name_rows(axes, made)
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": len(PARTS)}
    axes.legend(frameon=False, fontsize="small", **above)
    return figure


def coordinates(made: Comparison) -> Figure:
    """A line for each run through what differs and what came of it."""
    keys = [*made.varied, *made.tests[-1:]]
    columns = [
        [record.test.get(key, record.config.get(key)) for record in made.records] for key in keys
    ]
    places = np.array([heights(values) for values in columns])
    figure, axes = frame("", "")
    for number, style in enumerate(styles(made)):
        axes.plot(range(len(keys)), places[:, number], linewidth=1, **style)
    axes.set_xticks(range(len(keys)), [key.removesuffix(".name") for key in keys])
    axes.set_yticks([])
    for at, (values, height) in enumerate(zip(columns, places, strict=True)):
        axes.axvline(at, color="grey", linewidth=0.8)
        marks = {str(value)[:9]: y for value, y in zip(values, height, strict=True)}
        for words, y in list(marks.items())[:NAMED]:
            axes.annotate(
                words, (at, y), fontsize="x-small", xytext=(3, 2), textcoords="offset points"
            )
    return figure


def heights(values: list) -> list[float]:
    """Where values lie on an axis from 0 to 1: numbers by their size, words by their order."""
    numbers = all(isinstance(value, int | float) and value is not True for value in values)
    order = {value: place for place, value in enumerate(sorted({*map(str, values)}))}
    sizes = [float(value) if numbers else float(order[str(value)]) for value in values]
    low, high = min(sizes), max(sizes)
    return [(size - low) / (high - low) if high > low else 0.5 for size in sizes]


def confusion(record: Record, found: Predictions) -> Figure:
    """Which class was taken for which.

    Args:
        record: of the run.
        found: what it said of each sample.
    """
    figure, axes = frame("predicted", "true", height=5)
    names = found.names
    counts = found.confusion(len(names))
    axes.imshow(np.log1p(counts), cmap="Blues")
    if len(counts) <= NAMED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.annotate(str(count), (column, row), ha="center", va="center", fontsize="small")
        turned = {"rotation": 45, "ha": "right"} if max(map(len, names)) > SHORT else {}
        axes.set_xticks(range(len(names)), names, parse_math=False, **turned)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_title(record.name, fontsize="medium")
    return figure


def frame(across: str, up: str, height: float = 4) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; without pyplot, which would keep it."""
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def styles(made: Comparison) -> list[dict[str, str]]:
    """Colour and dash of each run's line: a pair has one colour, a backend one dash."""
    families = alike(made.records, but=("backend",))
    colour = {p: COLOURS[n % len(COLOURS)] for n, runs in enumerate(families) for p in runs}
    dash = dict(zip(BACKENDS, DASHES, strict=False))
    return [
        {"color": colour.get(p, "grey"), "linestyle": dash.get(record.backend, "-")}
        for p, record in enumerate(made.records)
    ]


def explain(axes: Axes) -> None:
    """A legend, unless it would hide what it explains."""
    if 0 < len(axes.get_lines()) <= NAMED:
        axes.legend(frameon=False, fontsize="x-small")


def name_rows(axes: Axes, made: Comparison) -> None:
    """The runs' names beside their bars, the first on top."""
    names = [record.name for record in made.records]
    axes.set_yticks(range(len(names)), names, fontsize="x-small")
    axes.invert_yaxis()


def bar_height(made: Comparison) -> float:
    """Of a figure with a bar for each run, in inches."""
    return 1.2 + 0.25 * len(made.records)


def smallest(made: Comparison, key: str) -> float:
    """The smallest value that any run has logged of a key."""
    found = [record.reading.curves[key] for record in made.records if key in record.reading.curves]
    return min((float(np.nanmin(curve.value, initial=np.inf)) for curve in found), default=0.0)
