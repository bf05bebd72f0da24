"""How far two runs are apart in one step, quantity by quantity, in the order of cause and effect."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.observer import Trace
from pipeline.portable import Arrays

# An array is measured against its own largest number, or against this share of the largest of its kind:
# what is zero but for rounding (the gradient of a bias before a norm) is no difference.
NEGLIGIBLE = 1e-4

# What each part of a step is called, in the order in which one causes the next.
WEIGHTS, STATISTICS = "initial weights", "initial buffers"
BATCH, FORWARD, LOSS = "batch", "forward", "loss"
BUFFERS, GRADIENT, NORM, CLIPPED = "buffers", "gradient", "gradients' norm", "clipped gradient"
RATE, SLOT, UPDATE, AVERAGE = "learning rate", "optimizer slot", "update", "average"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Difference:
    """One quantity of one step.

    Args:
        part: of the step.
        name: of the module, parameter or value.
        value: largest difference of two numbers in it, relative to the largest number; infinite where
            only one side has it, or it is of another shape or no number.
    """

    part: str
    name: str
    value: float


def differences(ours: Trace, theirs: Trace) -> Iterator[Difference]:
    """All quantities of a step, a cause before its effects.

    Args:
        ours: step of one run.
        theirs: the same step of the other.
    """
    if ours.step == 0:
        yield from _each(WEIGHTS, ours.state.parameters, theirs.state.parameters)
        yield from _each(STATISTICS, ours.state.buffers, theirs.state.buffers)
        return
    yield from _each(BATCH, ours.batch, theirs.batch)
    shared = [name for name in ours.forward if name in theirs.forward]
    for name in shared:  # each its own scale: the next module's numbers say nothing of this one's
        yield from _each(FORWARD, {name: ours.forward[name]}, {name: theirs.forward[name]})
    yield _value(LOSS, "loss", ours.values[0], theirs.values[0])
    yield from _each(BUFFERS, ours.state.buffers, theirs.state.buffers)
    yield from reversed(list(_each(GRADIENT, ours.gradients, theirs.gradients, lacking=0.0)))
    yield _value(NORM, "norm", ours.values[-1], theirs.values[-1])
    yield from _each(CLIPPED, ours.clipped, theirs.clipped, lacking=0.0)
    yield _value(RATE, "learning rate", ours.learning_rate, theirs.learning_rate)
    for slot in dict.fromkeys((*ours.state.slots, *theirs.state.slots)):
        mine, other = ours.state.slots.get(slot, {}), theirs.state.slots.get(slot, {})
        for found in _each(SLOT, mine, other):
            yield Difference(SLOT, f"{slot} of {found.name}", found.value)
    yield from _each(UPDATE, ours.state.parameters, theirs.state.parameters)
    yield from _each(AVERAGE, ours.state.averages, theirs.state.averages)


def evaluation_differences(
    ours: Mapping[str, float], theirs: Mapping[str, float]
) -> list[Difference]:
    """The sums over a validation set."""
    return [_value(EVALUATION, name, ours[name], theirs[name]) for name in ours]


def _each(
    part: str, ours: Arrays, theirs: Arrays, lacking: float | None = None
) -> Iterator[Difference]:
    """Arrays by name.

    Args:
        part: of the step.
        ours: of one run.
        theirs: of the other.
        lacking: what an array that one side lacks is taken for; None: nothing is like it.
    """
    scale = max((_largest(array) for array in (*ours.values(), *theirs.values())), default=0.0)
    for name in dict.fromkeys((*ours, *theirs)):
        mine, other = ours.get(name), theirs.get(name)
        if mine is None or other is None:
            there = mine if other is None else other
            alike = lacking is not None and _largest(there) == lacking
            yield Difference(part, name, 0.0 if alike else np.inf)
        else:
            yield Difference(part, name, relative(mine, other, NEGLIGIBLE * scale))


def _value(part: str, name: str, ours: float, theirs: float) -> Difference:
    return Difference(part, name, relative(np.asarray(ours), np.asarray(theirs)))


def relative(ours: np.ndarray, theirs: np.ndarray, smallest: float = 0.0) -> float:
    """Largest difference over the largest number, or over `smallest` where all are smaller.

    Images and what a convolution makes of them are `[batch, channels, height, width]` on one side and
    `[batch, height, width, channels]` on the other.
    """
    orders = [theirs]
    if theirs.ndim == 4:
        orders += [theirs.transpose(0, 3, 1, 2), theirs.transpose(0, 2, 3, 1)]
    return min(
        (_relative(ours, order, smallest) for order in orders if order.shape == ours.shape),
        default=np.inf,
    )


def _relative(ours: np.ndarray, theirs: np.ndarray, smallest: float) -> float:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if not ours.size or np.array_equal(ours, theirs):
        return 0.0
    gap = _largest(ours - theirs)
    value = gap / max(_largest(ours), _largest(theirs), smallest)
    return value if np.isfinite(value) else np.inf


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array.astype(np.float64)).max()) if array.size else 0.0
