"""Random numbers that both sides draw in training: of which kind, with which rate, and how many."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.verify.trace.graph import Draw, Op, Trace, ancestors
from pipeline.verify.verdict import SIDES, Cause, First, Part

Key = tuple[str, float]  # kind and probability
Rates = Counter[Key]


@dataclass(frozen=True)
class RandomNumbers:
    """Random numbers that lead to an output."""

    key: Key
    size: int
    shape: tuple[int, ...]  # without axes of size 1
    place: str  # layer that draws them

    @property
    def rate(self) -> str:
        """The rate of dropout, or the kind of the numbers."""
        kind, number = self.key
        return f"rate {1 - number:.3g}" if kind == "bernoulli" else kind


def drawn(trace: Trace) -> list[RandomNumbers]:
    """Return the random draws that lead to an output; a mask that keeps everything counts for nothing."""
    leading = ancestors(trace.ops, trace.results.values())
    found = []
    for draw in trace.draws:
        if draw.op in leading and (draw.kind != "bernoulli" or 0 < draw.number < 1):
            shape = tuple(size for size in trace.ops[draw.op].shape if size != 1)
            shape = shape if int(np.prod(shape)) == draw.size else (draw.size,)
            key = draw.kind, round(draw.number, 12)
            found.append(RandomNumbers(key, draw.size, shape, place_of(trace, draw)))
    return found


def rates(trace: Trace) -> Rates:
    """Count the random draws that lead to an output by kind and probability."""
    return Counter(one.key for one in drawn(trace))


def describe(counted: Rates) -> str:
    """Describe draws: `3 of rate 0.1`."""
    words = [
        f"{count} of rate {1 - number:.3g}" if kind == "bernoulli" else f"{count} {kind}"
        for (kind, number), count in sorted(counted.items())
    ]
    return ", ".join(words) or "none"


def first_other_rate(traces: tuple[Trace, Trace]) -> tuple[First, Cause] | None:
    """Return the first draw with a probability that the other side never uses."""
    draws = [drawn(trace) for trace in traces]
    keys = [{one.key for one in side} for side in draws]
    odd = [next((one for one in side if one.key in keys[0] ^ keys[1]), None) for side in draws]
    if odd == [None, None]:
        return None
    left, right = (one.place if one else "nowhere" for one in odd)
    numbers = [one.key[1] if one else 1.0 for one in odd]
    words = " and ".join(
        f"{one.rate} in {one.place} ({side})" for side, one in zip(SIDES, odd, strict=True) if one
    )
    name = "dropout rate" if all(odd) else "missing dropout"
    cause = Cause(name, f"random numbers are of {words}: what follows hides it", False)
    return First(Part.training, left, right, abs(numbers[0] - numbers[1])), cause


def first_other_size(traces: tuple[Trace, Trace]) -> tuple[First, Cause] | None:
    """Return the first draws of one rate that are more on one side: a mask that channels share, or none.

    Masks that samples share are none of these: to each sample the same happens on both sides.
    """
    draws = drawn(traces[0]), drawn(traces[1])
    for key in dict.fromkeys(one.key for one in draws[0]):
        left, right = ([one for one in side if one.key == key] for side in draws)
        if sum(one.size for one in left) == sum(one.size for one in right):
            continue
        if len(left) == len(right) and all(map(_is_alike, left, right)):
            continue
        odd = _odd(left, right)
        words = " and ".join(
            f"{list(one.shape)} numbers in {one.place} ({side})"
            for side, one in zip(SIDES, odd, strict=True)
            if one
        )
        totals = sorted((sum(one.size for one in left), sum(one.size for one in right)))
        ours, theirs = (one.place if one else "nowhere" for one in odd)
        first = First(Part.training, ours, theirs, 1 - totals[0] / totals[1])
        name = "dropout shape" if all(odd) else "missing dropout"
        remedy = (
            f"dropout of {left[0].rate} draws {words}: as many on both sides make the two the same"
        )
        return first, Cause(name, remedy, False)
    return None


def _odd(
    left: Sequence[RandomNumbers], right: Sequence[RandomNumbers]
) -> tuple[RandomNumbers | None, RandomNumbers | None]:
    """Return the first draws that do not fit: the first pair in order, else of a size that is more often."""
    if len(left) == len(right):
        return next(pair for pair in zip(left, right, strict=True) if not _is_alike(*pair))
    counts = [Counter(one.size for one in side) for side in (left, right)]
    more = counts[0] - counts[1], counts[1] - counts[0]
    ours, theirs = (
        next((one for one in side if one.size in other), None)
        for side, other in zip((left, right), more, strict=True)
    )
    return ours, theirs


def shared_by_samples(traces: tuple[Trace, Trace]) -> list[str]:
    """Describe draws that one side makes once for all samples, or heads, where the other makes several."""
    draws = drawn(traces[0]), drawn(traces[1])
    if len(draws[0]) != len(draws[1]):
        return []
    found = [
        f"{one.place} draws {list(one.shape)} (left), {other.place} {list(other.shape)} (right)"
        for one, other in zip(*draws, strict=True)
        if one.size != other.size and _is_alike(one, other)
    ]
    return found


def place_of(trace: Trace, draw: Draw) -> str:
    """Return the layer that draws, or a line of code: of what takes the numbers, if it has none."""
    ops = trace.ops[draw.op :] or trace.ops[-1:]
    return name_of(next((op for op in ops if op.layer or op.source), ops[0]))


def name_of(op: Op) -> str:
    """Return the layer of an operation, or its line of code."""
    return op.layer or op.source or op.name


def _is_alike(one: RandomNumbers, other: RandomNumbers) -> bool:
    """True for draws of one size, or of which one is shared along the first axes: samples, heads."""
    if one.size == other.size:
        return True
    small, large = sorted((one, other), key=lambda draw: draw.size)
    if not small.shape:
        return len(large.shape) == 1
    return len(small.shape) < len(large.shape) and large.shape[-len(small.shape) :] == small.shape
