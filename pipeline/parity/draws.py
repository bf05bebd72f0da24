"""Random numbers that a user's two models draw by themselves, as in dropout."""

from collections.abc import Mapping, Sequence
from math import isfinite

from pipeline.config.train import Precision
from pipeline.run.recording.step_observer import MASK, LayerDraw

KNOWN = ("bernoulli", "normal", "uniform")  # constants take their place on both sides

Draws = Sequence[LayerDraw]
Rate = tuple[str, float]  # kind, and the probability to be one


def other_rate(ours: Draws, theirs: Draws) -> tuple[str, float] | None:
    """Return the first layers of both sides whose rate the other never uses, and by how much they differ."""
    sides = [{_rate(draw): draw for draw in reversed(draws)} for draws in (ours, theirs)]
    odd = [
        [draw for rate, draw in reversed(side.items()) if rate not in other]
        for side, other in (sides, sides[::-1])
    ]
    if not any(odd):
        return None
    ends = [draws[0] if draws else None for draws in odd]
    numbers = [end.number if end else 1.0 for end in ends]
    words = [f"{end.layer} ({_words(_rate(end))})" if end else "nowhere" for end in ends]
    return " and ".join(words), abs(numbers[0] - numbers[1]) or 1.0


def incomparable(draws: Mapping[str, Draws], precision: Precision) -> str:
    """Return why random numbers cannot be made the same on both sides; nothing if they can."""
    masks = {
        backend: {(d.layer, d.size): d for d in each if d.kind == MASK}
        for backend, each in draws.items()
    }
    for backend, each in masks.items():
        for other, theirs in masks.items():
            for draw in (each[key] for key in each if key not in theirs):
                return (
                    f"{backend} draws the mask of {draw.layer} ({draw.size} numbers) by its name, and "
                    f"{other} has no such layer: {', '.join(d.layer for d in theirs.values()) or 'none'}. "
                    "Give layers of dropout the same names, or compare with train.precision=fp64, which "
                    "leaves them out"
                )
    for backend, each in draws.items():
        for draw in each:
            if draw.kind == MASK:
                continue
            if draw.kind not in KNOWN or not isfinite(draw.number):
                return (
                    f"{backend} draws random numbers ({draw.kind}) in {draw.layer}, which cannot be made "
                    "the same on both sides"
                )
            if precision is not Precision.fp64:
                return (
                    f"{backend} draws random numbers ({_words(_rate(draw))}) in {draw.layer}, and the "
                    "other side draws its own; with train.precision=fp64 both are compared without. "
                    "With train.randomness=shared layers of dropout with the same names draw the same"
                )
    return ""


def other_counts(draws: Mapping[str, Draws]) -> str:
    """Return how many random numbers each side draws if they are not as many; nothing if they are."""
    counted = {backend: _count(each) for backend, each in draws.items()}
    sides = list(counted.values())
    if not sides or all(side == sides[0] for side in sides):
        return ""
    words = (f"{describe(draws[backend])} ({backend})" for backend in counted)
    return (
        f"without random numbers the two agree, but they do not draw as many: {', '.join(words)}; a mask "
        "that is shared over the batch or over heads draws fewer"
    )


def describe(draws: Draws) -> str:
    """Describe draws: `1024 numbers of rate 0.1`."""
    counts = sorted(_count(draws).items())
    return ", ".join(f"{size} of {_words(rate)}" for rate, size in counts) or "none"


def left_out(draws: Draws) -> str:
    """Return what was left out of a comparison: `dropout`, if that is all."""
    return "dropout" if {draw.kind for draw in draws} <= {"bernoulli"} else "random numbers"


def _count(draws: Draws) -> dict[Rate, int]:
    """Count random numbers by their distribution; a mask that keeps everything counts for nothing."""
    counts: dict[Rate, int] = {}
    for draw in draws:
        if draw.kind != "bernoulli" or draw.number < 1:
            counts[_rate(draw)] = counts.get(_rate(draw), 0) + draw.size
    return counts


def _rate(draw: LayerDraw) -> Rate:
    return draw.kind, round(draw.number, 6)


def _words(rate: Rate) -> str:
    kind, number = rate
    return f"rate {1 - number:.3g}" if kind in ("bernoulli", MASK) else kind
