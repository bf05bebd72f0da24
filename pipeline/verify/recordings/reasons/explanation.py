"""Checks if a cause explains how two updates differ."""

from collections.abc import Sequence

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.recordings.reasons.regression import proportion, remains
from pipeline.verify.recordings.steps import StepPair

CLOSE = 1e-3  # what may remain of what is explained


def difference(pair: StepPair, names: Sequence[str], predicted: Arrays | None = None) -> float:
    """Return the largest difference of the right updates to the left ones, or to what is predicted."""
    ours, theirs = pair.updates
    known = ours if predicted is None else predicted
    return max(pair.excess(name, theirs[name] - known[name]) for name in names)


def explains(pair: StepPair, names: Sequence[str], predicted: Arrays) -> bool:
    """True if what is predicted of the right updates leaves next to nothing of the difference."""
    before, after = difference(pair, names), difference(pair, names, predicted)
    return after <= max(10 * pair.precision.bar, CLOSE * before) and after < 0.1 * before


def is_plain(pair: StepPair, at: int = 0) -> bool:
    """True if the updates of the left (0) or right (1) side are proportional to its gradients."""
    if pair.gradients is None:
        return False
    arrays = [[side[n] for n in pair.trained] for side in (pair.gradients[at], pair.updates[at])]
    return remains(proportion(*arrays), *arrays) < CLOSE


def elements(pair: StepPair, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all updates, gradients and weights of the left (0) or right (1) side."""
    gradients = pair.gradients or ({}, {})
    update, gradient, weights = (
        np.concatenate([side[name].ravel() for name in pair.trained])
        for side in (pair.updates[at], gradients[at], pair.before[at])
    )
    return update, gradient, weights
