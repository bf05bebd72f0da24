"""Rounds: whatever is compared takes turns in alternating order until the ratios are known well enough.

Each round gives every side one turn. The order is reversed every other round, so that a machine that gets
slower, or another program that disturbs, hits all alike.
"""

from collections.abc import Callable, Mapping, Sequence

from pipeline.bench.statistics import FEWEST, median_interval, ratio

PRECISE = 0.02  # half of an interval, relative to its median, at which no more rounds are needed

TakeTurn = Callable[[], float | None]  # gives seconds or a rate; None if it has failed
Known = Mapping[str, Sequence[float]]  # values by name, one for each round
Agree = Callable[[bool], bool]  # gives all processes that take turns together one answer


def rounds_of(turns: Mapping[str, TakeTurn], most: int, agree: Agree = bool) -> Known:
    """Take turns until all ratios are precise, or `most` rounds are over; return the values by round.

    All processes that take turns together end after the same round if `agree` gives them one answer.
    """
    known: dict[str, list[float]] = {name: [] for name in turns}

    def is_over(rounds: int, values: Known) -> bool:
        return agree(rounds >= most or (rounds >= FEWEST and are_precise(values)))

    alternate(turns, known, is_over)
    return known


def alternate(
    turns: Mapping[str, TakeTurn],
    known: Mapping[str, list[float]],
    is_over: Callable[[int, Known], bool],
) -> int:
    """Take turns, in an order that is reversed every other round, until they are over; return the rounds.

    Each value is added to the list of its name at once, so that an interruption loses none. Whoever fails, by
    None, leaves; `is_over` is asked before each round with the number of rounds and the values of the others.
    """
    rounds, active = 0, [*turns]
    while active and not is_over(rounds, {name: known[name] for name in active}):
        for name in active[:: 1 if rounds % 2 == 0 else -1]:
            value = turns[name]()
            if value is None:
                active.remove(name)
            else:
                known[name].append(value)
        rounds += 1
    return rounds


def are_precise(values: Known) -> bool:
    """Return whether the ratios of all pairs are known well enough; of a single side its median."""
    names = list(values)
    if len(names) < 2:
        found = [median_interval(own) for own in values.values()]
    else:
        pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
        found = [ratio(values[a], values[b]) for a, b in pairs]
    return all(interval.half <= PRECISE * interval.median for interval in found)
