"""Columns of the table of runs: the same in the terminal, in Markdown, in CSV and on the page."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pipeline.compare.comparison import Comparison
from pipeline.compare.records import Record
from pipeline.formatting import format_number
from pipeline.storage.recorder_state import PHASES

Value = str | float | int | None

LONGEST_NAME = 48  # characters in a line; a longer name wraps


@dataclass(frozen=True)
class Column:
    """A column of the table of runs.

    `of` returns the value of a run, or None. A narrow terminal leaves out the columns with the highest
    `rank`. `digits` is the number of digits after the point; None: four significant digits.
    """

    title: str
    of: Callable[[Record], Value]
    rank: int = 0
    digits: int | None = None

    def text(self, record: Record) -> str:
        """Format the value of a run."""
        value = self.of(record)
        if value is None:
            return "–"
        if self.digits is None or isinstance(value, str):
            return format_number(value)
        return f"{value:,.{self.digits}f}"


def columns(made: Comparison) -> list[Column]:
    """Return the columns of a comparison."""
    found = [Column("run", lambda record: record.name), Column("status", lambda r: r.status)]
    found += [Column(key, lambda r, key=key: r.result.test.get(key)) for key in made.tests]
    found.append(seconds("seconds", "total", rank=1))
    found.append(Column("samples/s", lambda r: r.result.throughput, rank=1, digits=0))
    if any(record.result.fallback for record in made.records):
        found.append(Column("on", device, rank=1))
    for metric in dict.fromkeys(record.best.metric for record in made.records):
        if metric is not None:
            found.append(Column(f"best {metric}", partial(best, metric), rank=3))
    if made.target is not None:
        title = f"s to {format_number(made.target.value)}"
        found.append(Column(title, time_to_target, rank=4, digits=1))
    if made.price is not None:
        found.append(Column("cost", made.cost, rank=2))
    # Without a result, the last logged step.
    steps = Column("steps", lambda r: r.result.steps or r.reading.steps or None, rank=3, digits=0)
    memory = Column("MB", lambda r: r.result.peak_memory_mb, rank=3, digits=0)
    return [*found, steps, *(seconds(phase, phase, rank=5) for phase in PHASES), memory]


def seconds(title: str, phase: str, rank: int) -> Column:
    """Return the column of the seconds of a phase, or of the `total`."""
    return Column(title, lambda record: record.result.seconds.get(phase), rank, digits=1)


def device(record: Record) -> Value:
    """Return the devices of a run; it stands out if they are the CPU of a machine with GPUs."""
    return "CPU, not the GPU" if record.result.fallback else record.result.devices


def best(metric: str, record: Record) -> Value:
    """Return the best value of a run, if this metric was monitored."""
    return record.best.value if record.best.metric == metric else None


def time_to_target(record: Record) -> Value:
    """Return the seconds to the target, the step if seconds were not logged, or `never`."""
    if record.reading.reached is None:
        return "never" if record.status == "completed" else None
    step, passed = record.reading.reached
    return passed if passed == passed else f"step {step}"


def fitting(made: Comparison, width: int) -> list[Column]:
    """Return the columns that fit into a width in characters, in their order."""
    every = columns(made)
    taken = {
        column.title: 1 + max(len(column.title), *(len(column.text(r)) for r in made.records))
        for column in every
    }
    taken[every[0].title] = min(taken[every[0].title], LONGEST_NAME)
    while sum(taken.values()) > width and any(column.rank for column in every):
        least = max(reversed(every), key=lambda column: column.rank)
        every.remove(least)
        del taken[least.title]
    return every
