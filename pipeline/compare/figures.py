"""Plots for papers and slides, as PNG and SVG: `--figures`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.backend_specs import labels
from pipeline.compare.comparison import Comparison
from pipeline.compare.naming import alike, short
from pipeline.compare.records import Record
from pipeline.storage.predictions import Predictions, read_predictions
from pipeline.storage.recorder_state import PHASES

# Distinct for the colour-blind, and in print (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")  # of the backends, in their order

NAMED = 20  # maximum of runs or classes named in a legend or on an axis
SHORT = 3  # letters of the longest class name that fits without rotation
DPI = 150


def draw_all(made: Comparison, folder: Path) -> list[Path]:
    """Draw every plot of a comparison into a folder and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    # Text stays text in an SVG. Without a date and with a fixed salt, equal figures are equal files.
    written = []
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tandem"}):
        for name, figure in figures(made):
            for kind in ("png", "svg"):
                written.append(folder / f"{name}.{kind}")
                metadata = {"Date": None} if kind == "svg" else {}
                figure.savefig(written[-1], dpi=DPI, metadata=metadata)
    return written


def figures(made: Comparison) -> Iterator[tuple[str, Figure]]:
    """Yield every figure with its name."""
    keys = dict.fromkeys(key for record in made.records for key in record.reading.curves)
    for key in keys:
        if not key.startswith("test/"):
            yield f"curve-{key.replace('/', '-')}", curves(made, key)
    for key in dict.fromkeys(key for pair in made.pairs for key in pair.gaps):
        yield f"difference-{key.replace('/', '-')}", differences(made, key)
    results = [record.result for record in made.records]
    colours = [colour for colour, _ in styles(made)]
    if any(speeds := [result.throughput for result in results]):
        yield "speed", bars(made, "training samples per second", {"": speeds}, [colours])
    if any(memory := [result.peak_memory_mb for result in results]):
        yield "memory", bars(made, "peak memory in MB", {"": memory}, [colours])
    if any(result.seconds for result in results):
        seconds = {phase: [result.seconds.get(phase) for result in results] for phase in PHASES}
        yield "time", bars(made, "seconds", seconds, COLOURS)
    if len(made.varied) > 1:
        yield "coordinates", coordinates(made)
    for record in made.records:
        if predictions := read_predictions(record.folder):
            yield f"confusion-{record.folder.name}", confusion(record, predictions)


def curves(made: Comparison, key: str) -> Figure:
    """Plot a key of all runs over the steps."""
    figure, axes = frame("step", key)
    lowest = np.inf
    for record, (colour, dash) in zip(made.records, styles(made), strict=True):
        if curve := record.reading.curves.get(key):
            axes.plot(curve.step, curve.value, dash, c=colour, label=record.name, linewidth=1.2)
            lowest = np.nanmin(curve.value, initial=lowest)
    if key.endswith("loss") and lowest > 0:
        axes.set_yscale("log")
    add_legend(axes)
    return figure


def differences(made: Comparison, key: str) -> Figure:
    """Plot the difference between the backends in a key over the steps."""
    figure, axes = frame("step", "relative difference")
    axes.set_title(f"{key}: between the backends", fontsize="medium")
    for number, pair in enumerate(made.pairs):
        if gap := pair.gaps.get(key):
            # A logarithmic axis has no zero: a gap in the line.
            shown = np.where(gap.curve.value > 0, gap.curve.value, np.nan)
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(gap.curve.step, shown, label=pair.name or "pair", color=colour, linewidth=1)
    axes.set_yscale("log")
    add_legend(axes)
    return figure


def bars(
    made: Comparison,
    title: str,
    parts: Mapping[str, Sequence[float | None]],
    colours: Sequence[str | list[str]],
) -> Figure:
    """Plot a bar for each run, the first on top: stacked parts, each of one colour or one for each run."""
    count = len(made.records)
    figure, axes = frame(title, "", height=1.2 + 0.25 * count)
    left = np.zeros(count)
    for (part, values), colour in zip(parts.items(), colours, strict=False):
        lengths = np.array([value or 0.0 for value in values])
        axes.barh(range(count), lengths, left=left, label=part, color=colour)
        left += lengths
    axes.set_yticks(range(count), [record.name for record in made.records], fontsize="x-small")
    axes.invert_yaxis()
    if len(parts) > 1:
        axes.legend(
            frameon=False,
            fontsize="small",
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(parts),
        )
    return figure


def coordinates(made: Comparison) -> Figure:
    """Plot a line for each run through the keys that differ and the last test metric."""
    keys = [*made.varied, *made.tests[-1:]]
    known = [{**record.config, **record.result.test} for record in made.records]
    columns = [[values.get(key) for values in known] for key in keys]
    places = np.array([heights(values) for values in columns])
    figure, axes = frame("", "")
    for number, (colour, dash) in enumerate(styles(made)):
        axes.plot(range(len(keys)), places[:, number], dash, c=colour, linewidth=1)
    axes.set_xticks(range(len(keys)), [short(key) for key in keys])
    axes.set_yticks([])
    for at, (values, height) in enumerate(zip(columns, places, strict=True)):
        axes.axvline(at, color="grey", linewidth=0.8)
        marks = {str(value)[:9]: y for value, y in zip(values, height, strict=True)}
        for label, y in list(marks.items())[:NAMED]:
            axes.annotate(
                label, (at, y), fontsize="x-small", xytext=(3, 2), textcoords="offset points"
            )
    return figure


def heights(values: list) -> list[float]:
    """Place values on an axis from 0 to 1: numbers by size, text by its order."""
    numbers = all(isinstance(value, int | float) and value is not True for value in values)
    order = {value: place for place, value in enumerate(sorted({*map(str, values)}))}
    sizes = [float(value) if numbers else float(order[str(value)]) for value in values]
    low, high = min(sizes), max(sizes)
    return [(size - low) / (high - low) if high > low else 0.5 for size in sizes]


def confusion(record: Record, predictions: Predictions) -> Figure:
    """Plot the confusion matrix of a run."""
    figure, axes = frame("predicted", "true", height=5)
    names = predictions.names
    counts = predictions.confusion(len(names))
    axes.imshow(np.log1p(counts), cmap="Blues")
    if len(counts) <= NAMED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.annotate(str(count), (column, row), ha="center", va="center", fontsize="small")
        axes.set_xticks(range(len(names)), names, parse_math=False)
        if max(map(len, names)) > SHORT:
            for label in axes.get_xticklabels():
                label.set(rotation=45, horizontalalignment="right")
        axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_title(record.name, fontsize="medium")
    return figure


def frame(across: str, up: str, height: float = 4) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes; without pyplot, which would keep a reference to it."""
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def styles(made: Comparison) -> list[tuple[str, str]]:
    """Choose colour and dash of each run's line: a pair has one colour, a backend one dash."""
    families = alike(made.records, but=("backend",))
    colour = {p: COLOURS[n % len(COLOURS)] for n, runs in enumerate(families) for p in runs}
    backends = {record.backend for record in made.records}
    dash = dict(zip((one for one in labels() if one in backends), DASHES, strict=False))
    return [
        (colour.get(p, "grey"), dash.get(str(record.backend), "-"))
        for p, record in enumerate(made.records)
    ]


def add_legend(axes: Axes) -> None:
    """Add a legend, unless it would cover the plot."""
    if 0 < len(axes.get_lines()) <= NAMED:
        axes.legend(frameon=False, fontsize="x-small")
