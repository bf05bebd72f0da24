"""Likely causes of gradients that differ where the loss agrees."""

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np

from pipeline.verify.checks.differences import largest
from pipeline.verify.recordings.reasons.proportions import is_round, proportion, remains
from pipeline.verify.recordings.reasons.wording import listed
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import SIDES, Cause


def gradient_ratio(pair: StepPair) -> float | None:
    """Return the constant ratio of the right gradients to the left ones, or None."""
    if pair.gradients is None:
        return None
    sides = pair.lists(pair.gradients)
    ratio = proportion(*sides)
    rest = remains(ratio, *sides)
    is_ratio = rest <= 10 * pair.precision.bar and abs(ratio - 1) > 10 * rest and ratio > 0
    return ratio if is_ratio and isfinite(ratio) else None


def gradient_norms(pair: StepPair) -> list[float]:
    """Return the norm of all gradients of either side."""
    sides = pair.lists(pair.gradients) if pair.gradients else ([], [])
    return [sqrt(sum(float(np.vdot(a, a)) for a in side)) for side in sides]


def absent(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Gradients that one side does not have."""
    for side, missing in zip(SIDES, pair.missing, strict=True):
        if set(names) <= missing:
            remedy = (
                f"The {side} side has no gradient of {listed(names)}: it is frozen there, or the loss does "
                "not depend on it."
            )
            return Cause("missing gradient", remedy, False)
    return None


def constant_ratio(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Gradients in a constant ratio: clipped, summed, scaled."""
    ratio = gradient_ratio(pair)
    if ratio is None:
        return None
    factor, norms = max(ratio, 1 / ratio), sorted(gradient_norms(pair))
    small, large = SIDES if ratio > 1 else SIDES[::-1]
    if is_round(norms[0]):
        remedy = (
            f"The {small} gradients have the norm {norms[0]:.3g}, the {large} ones "
            f"{norms[1]:.3g}: clip both to {norms[0]:.2g}, and record both after it."
        )
        return Cause("gradient clipping", remedy, True)
    words = f"The {large} gradients are {factor:.5g} times the {small} ones"
    if abs(factor - round(factor)) <= 1e-4 * factor:
        remedy = (
            f"{words}: take the mean over samples, accumulated steps and devices on both sides."
        )
        return Cause("sum instead of mean", remedy, True)
    return Cause("scale of the gradients", f"{words}: look for a factor of the loss.", True)


def clipped_values(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Gradients clipped element by element on one side."""
    if pair.gradients is None:
        return None
    sides = pair.lists(pair.gradients)
    bounds = [max(map(largest, side)) for side in sides]
    small = int(bounds[1] < bounds[0])
    bound = bounds[small]
    rest = (
        largest(np.clip(large, -bound, bound) - clipped)
        for clipped, large in zip(sides[small], sides[1 - small], strict=True)
    )
    if bounds[1 - small] < 1.01 * bound or max(rest) > 10 * pair.precision.bar * bound:
        return None
    remedy = (
        f"The {SIDES[small]} gradients are clipped to ±{bound:.3g} element by element: clip both."
    )
    return Cause("gradient clipping", remedy, True)


GRADIENT_CAUSES = (absent, constant_ratio, clipped_values)
