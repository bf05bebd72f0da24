"""Differences between two runs in one step, quantity by quantity, in the order of cause and effect."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.parity.draws import other_rate
from pipeline.run.recording.step_observer import Trace
from pipeline.storage.portable_state import Arrays

# A difference is relative to the array's own largest number, or to this fraction of its part's largest:
# an array that is zero except for rounding (the gradient of a bias before a norm) does not count.
NEGLIGIBLE = 1e-4
# Intermediates that differ by less are in the same order.
SMALL = 1e-10

# Names of the parts of a step, in the order in which one causes the next.
WEIGHTS, STATISTICS = "initial weights", "initial buffers"
BATCH, DRAWS, FORWARD, LOSS = "batch", "random numbers", "forward", "loss"
BUFFERS, GRADIENT, NORM, CLIPPED = "buffers", "gradient", "gradients' norm", "clipped gradient"
RATE, SLOT, UPDATE, AVERAGE = "learning rate", "optimizer slot", "update", "average"
EVALUATION = "evaluation"

# Explanation of a first difference, by part.
MEANING = {
    WEIGHTS: "the two start from different weights: how they are loaded into this layer differs",
    STATISTICS: "the two start from different buffers",
    BATCH: "the two see different data",
    DRAWS: "the rate of dropout differs, or the distribution of other random numbers",
    FORWARD: "the forward pass parts here; everything before it is the same",
    LOSS: "the model's outputs are the same, the loss made of them is not",
    BUFFERS: "the forward pass is the same, what it leaves in the running statistics is not",
    GRADIENT: "the forward pass is the same, the backward pass parts here",
    NORM: "the gradients are the same, their norm is not",
    CLIPPED: "the gradients are the same before clipping, not after it",
    RATE: "the learning rates differ",
    SLOT: "the gradients are the same, what the optimizer keeps of them is not",
    UPDATE: "gradients and optimizer slots are the same, the update made of them is not "
    "(epsilon, weight decay, learning-rate factor, or a frozen parameter)",
    AVERAGE: "the weights are the same, their average is not",
    EVALUATION: "training is the same, the evaluation is not",
}

# Parts that the report shows step by step.
BY_STEP = (LOSS, NORM, RATE, FORWARD, GRADIENT, BUFFERS, SLOT, UPDATE)


@dataclass(frozen=True)
class Difference:
    """Difference of one quantity of a step: `name` is its module, parameter or value, in `part`.

    `value` is the largest difference of two numbers, relative to the largest number; infinite if the
    shapes differ, a number is not finite, or only one side has the quantity.
    """

    part: str
    name: str
    value: float


def differences(ours: Trace, theirs: Trace) -> Iterator[Difference]:
    """Compare all quantities of the same step of two runs, a cause before its effects.

    A parameter of one side alone is a difference of the initial weights if the loss depends on it.
    """
    alone = parameters_alone(ours, theirs)
    for trace, names in zip((ours, theirs), alone, strict=True):
        for name in names:
            gradient = trace.gradients.get(name)
            is_used = gradient is not None and _largest(gradient) > 0
            yield Difference(WEIGHTS, name, np.inf if is_used else 0.0)
    left_out = {*alone[0], *alone[1]}
    if ours.step == 0:
        yield from _each(WEIGHTS, ours.state.parameters, theirs.state.parameters, left_out)
        yield from _each(STATISTICS, *_shared(ours.state.buffers, theirs.state.buffers))
        return
    yield from _each(BATCH, ours.batch, theirs.batch)
    if odd := other_rate(ours.draws, theirs.draws):
        yield Difference(DRAWS, *odd)
    for name in _shared(ours.forward, theirs.forward)[0]:
        # Each on its own scale: magnitudes differ between modules.
        if (value := _alike(ours.forward[name], theirs.forward[name])) is not None:
            yield Difference(FORWARD, name, value)
    yield _value(LOSS, "loss", ours.values[0], theirs.values[0])
    # A buffer of one side alone is a constant, or its layer's evaluation differs.
    yield from _each(BUFFERS, *_shared(ours.state.buffers, theirs.state.buffers))
    gradients = _each(GRADIENT, ours.gradients, theirs.gradients, left_out, missing=0.0)
    yield from reversed(list(gradients))
    yield _value(NORM, "norm", ours.values[-1], theirs.values[-1])
    yield from _each(CLIPPED, ours.clipped, theirs.clipped, left_out, missing=0.0)
    yield _value(RATE, "learning rate", ours.learning_rate, theirs.learning_rate)
    for slot in dict.fromkeys((*ours.state.slots, *theirs.state.slots)):
        mine, other = ours.state.slots.get(slot, {}), theirs.state.slots.get(slot, {})
        for difference in _each(SLOT, mine, other, left_out):
            yield Difference(SLOT, f"{slot} of {difference.name}", difference.value)
    yield from _each(UPDATE, ours.state.parameters, theirs.state.parameters, left_out)
    yield from _each(AVERAGE, ours.state.averages, theirs.state.averages, left_out)


def parameters_alone(ours: Trace, theirs: Trace) -> tuple[list[str], list[str]]:
    """Return the names of parameters that one side alone has, of each side."""
    mine, other = ours.state.parameters, theirs.state.parameters
    return [name for name in mine if name not in other], [n for n in other if n not in mine]


def _shared(ours: Arrays, theirs: Arrays) -> tuple[Arrays, Arrays]:
    """Return the arrays that both sides have."""
    names = [name for name in ours if name in theirs]
    return {name: ours[name] for name in names}, {name: theirs[name] for name in names}


def evaluation_differences(
    ours: Mapping[str, float], theirs: Mapping[str, float]
) -> list[Difference]:
    """Compare the sums over the validation set."""
    return [_value(EVALUATION, name, ours[name], theirs[name]) for name in ours]


def _each(
    part: str,
    ours: Arrays,
    theirs: Arrays,
    left_out: Collection[str] = (),
    missing: float | None = None,
) -> Iterator[Difference]:
    """Compare arrays by name; a missing one equals an array full of `missing`, if given."""
    scale = max((_largest(array) for array in (*ours.values(), *theirs.values())), default=0.0)
    for name in dict.fromkeys((*ours, *theirs)):
        if name in left_out:
            continue
        mine, other = ours.get(name), theirs.get(name)
        if mine is not None and other is not None:
            yield Difference(part, name, relative(mine, other, NEGLIGIBLE * scale))
        else:
            largest = max(_largest(array) for array in (mine, other) if array is not None)
            yield Difference(part, name, 0.0 if largest == missing else np.inf)


def _value(part: str, name: str, ours: float, theirs: float) -> Difference:
    return Difference(part, name, relative(np.asarray(ours), np.asarray(theirs)))


def relative(ours: np.ndarray, theirs: np.ndarray, smallest: float = 0.0) -> float:
    """Return the largest difference over the largest number, or over `smallest` if all are smaller.

    Images and feature maps may be `[batch, channels, height, width]` on one side and
    `[batch, height, width, channels]` on the other; axes may be joined on one side.
    """
    orders = [theirs]
    if theirs.ndim == 4:
        orders += [theirs.transpose(0, 3, 1, 2), theirs.transpose(0, 2, 3, 1)]
    fitting = [order for order in orders if order.shape == ours.shape]
    if not fitting and theirs.size == ours.size and theirs.ndim != ours.ndim:
        fitting = [order.reshape(ours.shape) for order in orders]
    return min((_relative(ours, order, smallest) for order in fitting), default=np.inf)


def _alike(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """Return the relative difference of an intermediate, in whatever order each side keeps its numbers.

    None if one side has it in another shape: then what is made of it tells.
    """
    if ours.size != theirs.size:
        return None
    value = relative(ours, theirs)
    if value < SMALL:
        return value
    return min(value, _relative(np.sort(ours, None), np.sort(theirs, None), 0.0))


def _relative(ours: np.ndarray, theirs: np.ndarray, smallest: float) -> float:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if not ours.size or np.array_equal(ours, theirs):
        return 0.0
    value = _largest(ours - theirs) / max(_largest(ours), _largest(theirs), smallest)
    return value if np.isfinite(value) else np.inf


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array.astype(np.float64)).max()) if array.size else 0.0
