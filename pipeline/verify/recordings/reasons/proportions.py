"""Proportions between arrays of two recordings, and what they explain."""

from collections.abc import Sequence

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.checks.differences import largest
from pipeline.verify.recordings.steps import StepPair

CLOSE = 1e-3  # what may remain of what is explained


def proportion(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Return the factor of least squares from left to right arrays; 1 if the left ones are zero."""
    square = sum(float(np.vdot(a, a)) for a in left)
    product = sum(float(np.vdot(a, b)) for a, b in zip(left, right, strict=True))
    return product / square if square else 1.0


def remains(factor: float, left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Return the largest difference that a factor leaves, relative to the right arrays' largest number."""
    scale = max(map(largest, right), default=0.0)
    rest = max((largest(factor * a - b) for a, b in zip(left, right, strict=True)), default=0.0)
    value = rest / scale if scale else 0.0
    return value if np.isfinite(value) else np.inf


def is_round(value: float) -> bool:
    """True for a number of two digits, such as a person sets: 0.5, 1, 0.025."""
    return abs(value - float(f"{value:.1e}")) <= 1e-4 * abs(value)


def update_difference(
    pair: StepPair, names: Sequence[str], predicted: Arrays | None = None
) -> float:
    """Return the largest difference of the right updates to the left ones, or to what is predicted."""
    ours, theirs = pair.updates
    return max(pair.excess(name, theirs[name] - (predicted or ours)[name]) for name in names)


def explained(pair: StepPair, names: Sequence[str], source: Arrays) -> float | None:
    """Return the share of a source that added to the left updates gives the right ones, or None."""
    ours, theirs = pair.updates
    factor = proportion([source[n] for n in names], [theirs[n] - ours[n] for n in names])
    before = update_difference(pair, names)
    after = update_difference(pair, names, {n: ours[n] + factor * source[n] for n in names})
    is_explained = after <= max(10 * pair.precision.bar, CLOSE * before) and after < 0.1 * before
    return factor if factor and is_explained else None


def is_plain(pair: StepPair, at: int = 0) -> bool:
    """True if the updates of the left (0) or right (1) side are proportional to its gradients."""
    if pair.gradients is None:
        return False
    arrays = pair.lists((pair.gradients[at], pair.updates[at]))
    return remains(proportion(*arrays), *arrays) < CLOSE
