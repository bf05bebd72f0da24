"""Tables of a benchmark for the terminal."""

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from pipeline.bench.report.fairness import used_head, used_rows
from pipeline.bench.report.layers import layers_head, layers_rows
from pipeline.bench.results import INFER, TRAIN, Bench, Measured, times_as_fast
from pipeline.bench.statistics import Growth, Interval, growth
from pipeline.compare.table import framed
from pipeline.formatting import format_number

SPEED = (
    "precision, batch", "backend", "samples/s", "ms a step", "ms an inference", "compiled in s",
    "first loss after s", "memory MB",
)  # fmt: skip
GROWTH = (
    "precision", "backend", "step: fixed ms", "+ ms a sample", "inference: fixed ms", "+ ms a sample",
    "memory: fixed MB", "+ MB a sample",
)  # fmt: skip
SHORT = 20  # characters of a reason that fits into a cell


def speed_table(bench: Bench) -> Table:
    """Return a row for each measurement, with the median and half of its 95 % interval."""
    title = f"{bench.title}: median ± half of the 95 % interval"
    return filled(framed(title, speed_head(bench)), speed_rows(bench))


def growth_table(bench: Bench) -> Table:
    """Return a row for each backend and precision: how time and memory grow with the batch."""
    return filled(framed("growth with the batch", GROWTH), growth_rows(bench))


def layers_table(bench: Bench) -> Table:
    """Return a row for each layer; see `layers_rows`."""
    titles, before = [], ""
    for title in layers_head(bench):  # narrow columns: a backend's name stands above its first
        name, _, kind = title.rpartition(": ")
        titles.append(f"{name if name != before else ''}\n{kind}" if name else title)
        before = name
    return filled(framed("time by layer in a training step", titles), layers_rows(bench))


def used_table(bench: Bench) -> Table:
    """Return a row for each backend and precision: what it used."""
    return filled(framed("what each backend used", used_head(bench)), used_rows(bench))


def filled(output: Table, rows: Sequence[Sequence[str]]) -> Table:
    """Add rows to a table."""
    for row in rows:
        output.add_row(*map(escape, row))
    return output


def speed_head(bench: Bench) -> list[str]:
    """Return the titles of the table of measurements; the last is the ratio to the first backend."""
    return [*SPEED, f"× {bench.backends[0]}"]


def speed_rows(bench: Bench) -> list[list[str]]:
    """Return the cells of all measurements, by precision and batch size."""
    first, rows = bench.backends[0], []
    for one in sorted(bench.measured, key=lambda m: (bench.precisions.index(m.precision), m.batch)):
        at = bench.at(one.precision, one.batch)
        is_compared = one.backend != first and first in at and one.train
        gain = times_as_fast(one, at[first], TRAIN) if is_compared else None
        rows.append([f"{one.precision}, {one.batch}", *cells(one), with_half(gain)])
    return rows


def cells(one: Measured) -> list[str]:
    """Return the cells of a measurement, from the backend on."""
    if one.throughput is None:
        told = one.error if len(one.error) <= SHORT else "failed"  # a note has the reason
        return [one.backend, told, *["–"] * (len(SPEED) - 3)]
    step, inference = one.interval(TRAIN), one.interval(INFER)
    return [
        one.backend,
        with_half(one.throughput),
        with_half(step, 1000),
        with_half(inference, 1000),
        format_number(rounded(one.compile_seconds)),
        format_number(rounded(one.first_seconds)),
        format_number(rounded(one.memory_mb)),
    ]


def growth_rows(bench: Bench) -> list[list[str]]:
    """Return the cells of the table of growth."""
    rows = []
    for precision in bench.precisions:
        for backend in bench.backends:
            if lines := growths(bench, precision, backend):
                numbers = [
                    format_number(rounded(number * scale))
                    for line, scale in zip(lines, (1000, 1000, 1), strict=True)
                    for number in (line.fixed, line.each)
                ]
                rows.append([precision, backend, *numbers])
    return rows


def growths(bench: Bench, precision: str, backend: str) -> list[Growth]:
    """Return the growth of seconds of a step, of an inference, and of memory; empty for one batch size."""
    series = [one for one in bench.series(precision, backend) if one.infer]
    if len(series) < 2:
        return []
    batches = [one.batch for one in series]
    seconds = [
        [interval.median for one in series if (interval := one.interval(phase))]
        for phase in (TRAIN, INFER)
    ]
    memory = [one.memory_mb or 0.0 for one in series]
    return [growth(batches, values) for values in (*seconds, memory)]


def with_half(interval: Interval | None, scale: float = 1.0) -> str:
    """Return a median as text, with half its interval in percent of it."""
    if interval is None:
        return "–"
    half = 100 * interval.half / interval.median
    ending = f" ± {half:.1f} %" if half < 10 else f" ± {half:.0f} %" if half < math.inf else ""
    return format_number(rounded(interval.median * scale)) + ending


def rounded(value: float | None) -> float | None:
    """Round a number to three significant digits."""
    return None if value is None else float(f"{value:.3g}")
