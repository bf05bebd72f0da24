"""What is told of each run in a table: the same in the terminal, in Markdown, in CSV and on the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline.announce import number
from pipeline.compare.comparison import Comparison
from pipeline.compare.records import Record

Value = str | float | int | None

LONGEST_NAME = 48  # characters in a line; a longer name takes several

PARTS = ("setup", "compile", "train", "eval")  # of a run's time


@dataclass(frozen=True)
class Column:
    """One thing that is told of each run.

    Args:
        title: above it.
        of: its value in a run; None where it has none.
        rank: which columns a narrow terminal shows: the lowest first.
        digits: after the point; None: four significant digits.
    """

    title: str
    of: Callable[[Record], Value]
    rank: int = 0
    digits: int | None = None

    def text(self, record: Record) -> str:
        """The value for people."""
        value = self.of(record)
        if value is None:
            return "–"
        if self.digits is None or isinstance(value, str):
            return number(value)
        return f"{value:,.{self.digits}f}"


def columns(made: Comparison) -> list[Column]:
    """The columns that some runs need."""
    found = [Column("run", lambda record: record.name), Column("status", lambda r: r.status)]
    found += [Column(key, partial(tested, key)) for key in made.tests]
    found.append(Column("seconds", partial(seconds, "total"), rank=1, digits=1))
    found.append(Column("samples/s", lambda r: r.result.get("throughput"), rank=1, digits=0))
    for metric in dict.fromkeys(record.best.get("metric") for record in made.records):
        if metric is not None:
            found.append(Column(f"best {metric}", partial(best, metric), rank=3))
    if made.target is not None:
        title = f"s to {number(made.target.value)}"
        found.append(Column(title, until, rank=4, digits=1))
    if made.price is not None:
        found.append(Column("cost", made.cost, rank=2))
    found.append(Column("steps", steps, rank=3, digits=0))
    found += [Column(part, partial(seconds, part), rank=5, digits=1) for part in PARTS]
    found.append(Column("MB", lambda r: r.result.get("peak_memory_mb"), rank=3, digits=0))
    return found


def tested(key: str, record: Record) -> Value:
    """A test metric of a run."""
    return record.test.get(key)


def best(metric: str, record: Record) -> Value:
    """The best value of a run, where it was judged by this metric."""
    return record.best.get("value") if record.best.get("metric") == metric else None


def seconds(part: str, record: Record) -> Value:
    """A part of a run's time."""
    return record.part("seconds").get(part)


def steps(record: Record) -> Value:
    """The updates of a run; of one without a result those that it has logged."""
    return record.result.get("steps", record.reading.steps or None)


def until(record: Record) -> Value:
    """The seconds until the target; a word where they cannot be told."""
    if record.reading.reached is None:
        return "never" if record.status == "completed" else None
    step, passed = record.reading.reached
    return passed if passed == passed else f"step {step}"


def fitting(made: Comparison, width: int) -> list[Column]:
    """As many columns as fit, in their order.

    Args:
        made: the comparison.
        width: in characters.
    """
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


def rows(made: Comparison, shown: Sequence[Column]) -> list[list[Any]]:
    """The values of each run, as numbers where they are some."""
    return [[column.of(record) for column in shown] for record in made.records]
