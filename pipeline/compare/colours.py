"""Colours of runs: one for each pair of backends; if there are many, one for each setting, or by rank."""

from dataclasses import dataclass

from pipeline.compare.comparison import Comparison
from pipeline.compare.records import direction
from pipeline.config.experiment import REPEATS

COLOURS = 8  # on the page, few enough to tell apart


@dataclass(frozen=True)
class Colours:
    """Colours of runs."""

    of: list[int | None]  # for each run an index into `labels`; None without a config or metric
    labels: list[str]
    ranked: bool = False  # the colours go from the worst run to the best


def colours(made: Comparison) -> Colours:
    """Choose a colour for each run.

    Each pair has its own while there are enough; then seeds and folds share one; then runs are coloured by
    rank, since nobody can tell fifty colours apart.
    """
    for but in (["backend"], ["backend", *REPEATS]):
        labels = [
            made.label([position], but) if record.config else None
            for position, record in enumerate(made.records)
        ]
        known = list(dict.fromkeys(label for label in labels if label is not None))
        if len(known) <= COLOURS:
            of = [None if label is None else known.index(label) for label in labels]
            return Colours(of, [label or "all runs" for label in known])
    return by_rank(made)


def by_rank(made: Comparison) -> Colours:
    """Colour runs in eight classes from the worst to the best; a pair by the better of the two."""
    metric = next(filter(None, (record.best.metric for record in made.records)), None)
    values = [record.best_value(metric) for record in made.records]
    if metric is None:
        return Colours([None] * len(values), [])
    sign = 1 if direction(made.records, metric) == "max" else -1
    for pair in made.pairs:
        known = [value for p in pair.runs if (value := values[p]) is not None]
        for position in pair.runs:
            values[position] = max(known, key=lambda value: sign * value, default=None)
    order = sorted({value for value in values if value is not None}, key=lambda value: sign * value)
    ranks = {value: rank * COLOURS // len(order) for rank, value in enumerate(order)}
    of = [None if value is None else ranks[value] for value in values]
    return Colours(of, [f"worst {metric}", *[""] * (COLOURS - 2), f"best {metric}"], ranked=True)
