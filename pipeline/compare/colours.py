"""Which runs share a colour: a pair of backends always does; many runs by what they share, or by rank."""

from dataclasses import dataclass

from pipeline.compare.comparison import Comparison
from pipeline.metrics import direction

COLOURS = 8  # that an eye tells apart; the page has so many


@dataclass(frozen=True)
class Colours:
    """How runs are coloured.

    Args:
        of: the colour of each run, from 0; None for one that has nothing to be coloured by.
        labels: what each colour means, in their order.
        ranked: whether they go from the worst to the best.
    """

    of: list[int | None]
    labels: list[str]
    ranked: bool = False


def colours(made: Comparison) -> Colours:
    """A colour for each run.

    Pairs have one each as long as there are enough; then seeds share one; then runs are coloured by
    how good they are, since nobody tells fifty colours apart.
    """
    for but in (["backend"], ["backend", "seed"]):
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
    """Runs in eight classes, from the worst to the best; a pair by the better of the two."""
    metric = next(filter(None, (record.best.get("metric") for record in made.records)), None)
    values = [record.best_value(metric) for record in made.records]
    if metric is None:
        return Colours([None] * len(values), [])
    sign = 1 if direction(metric) == "max" else -1
    for pair in made.pairs:
        known = [values[p] for p in pair.runs if values[p] is not None]
        for position in pair.runs:
            values[position] = max(known, key=lambda value: sign * value, default=None)
    order = sorted({value for value in values if value is not None}, key=lambda value: sign * value)
    of = [None if value is None else order.index(value) * COLOURS // len(order) for value in values]
    return Colours(of, [f"worst {metric}", *[""] * (COLOURS - 2), f"best {metric}"], ranked=True)
