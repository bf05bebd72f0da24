"""Tables of a benchmark for the terminal."""

from rich.markup import escape
from rich.table import Table

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


def speed_table(bench: Bench) -> Table:
    """Return a row for each measurement, with the median and half of its 95 % interval."""
    first = bench.backends[0]
    output = framed(f"{bench.title}: median ± half of the 95 % interval", [*SPEED, f"× {first}"])
    for precision in bench.precisions:
        for batch in sorted({one.batch for one in bench.measured if one.precision == precision}):
            at = bench.at(precision, batch)
            rows = [m for m in bench.measured if (m.precision, m.batch) == (precision, batch)]
            for place, one in enumerate(rows):
                head = f"{precision}, {batch}" if place == 0 else ""
                gain = times_as_fast(one, at[first], TRAIN) if first in at and one.train else None
                shown = gain if one.backend != first else None
                output.add_row(head, *map(escape, cells(one)), with_half(shown))
    return output


def cells(one: Measured) -> list[str]:
    """Return the cells of a measurement, from the backend on."""
    if one.throughput is None:
        return [one.backend, one.error, *["–"] * (len(SPEED) - 3)]
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


def growth_table(bench: Bench) -> Table:
    """Return a row for each backend and precision: how time and memory grow with the batch."""
    output = framed("growth with the batch", GROWTH)
    for precision in bench.precisions:
        for backend in bench.backends:
            if lines := growths(bench, precision, backend):
                numbers = [
                    format_number(rounded(number * scale))
                    for line, scale in zip(lines, (1000, 1000, 1), strict=True)
                    for number in (line.fixed, line.each)
                ]
                output.add_row(precision, backend, *numbers)
    return output


def growths(bench: Bench, precision: str, backend: str) -> list[Growth]:
    """Return the growth of seconds of a step, of an inference, and of memory; empty for one batch size."""
    series = bench.series(precision, backend)
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
    """Return a median with half its interval as text, three digits of it."""
    if interval is None:
        return "–"
    median = format_number(rounded(interval.median * scale))
    half = interval.half * scale
    return median if half == float("inf") else f"{median} ± {half:.2g}"


def rounded(value: float | None) -> float | None:
    """Round a number to three significant digits."""
    return None if value is None else float(f"{value:.3g}")
