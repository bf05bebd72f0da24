"""Likely causes of updates in a constant ratio."""

from collections.abc import Sequence
from math import sqrt

from pipeline.verify.recordings.reasons.gradient_causes import gradient_norms
from pipeline.verify.recordings.reasons.proportions import CLOSE, explained, is_plain, is_round
from pipeline.verify.recordings.reasons.wording import listed
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import SIDES, Cause

MOMENTA = (0.8, 0.9, 0.95, 0.99)
# Ratio of first updates of Adam without and with bias correction, its betas being the usual ones.
UNCORRECTED = 0.1 / sqrt(0.001)


def learning_rate(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Updates in a constant ratio."""
    ours = pair.updates[0]
    ratio = 1 + (explained(pair, names, ours) or -1)
    if ratio <= 0:
        return None
    left, right = pair.rates
    if left and right and abs(right / left / ratio - 1) < CLOSE:
        remedy = (
            f"The learning rate is {left:.4g} on the left, {right:.4g} on the right: set it alike."
        )
        return Cause("learning rate", remedy, True)
    if pair.number == 1 and (known := first_ratio(ratio, is_plain(pair))):
        return known
    norm = gradient_norms(pair)[0] / max(ratio, 1 / ratio)
    if is_plain(pair) and is_round(norm) and not is_round(ratio):
        remedy = (
            f"The {SIDES[int(ratio < 1)]} updates are those of gradients clipped to norm {norm:.2g}: clip "
            "both, or none."
        )
        return Cause("gradient clipping", remedy, True)
    words = f"The right updates are {ratio:.4g} times the left ones"
    if pair.number > 1:
        remedy = f"{words} at step {pair.number}, after equal ones: compare the schedules."
        return Cause("learning-rate schedule", remedy, True)
    moved = [name for name in pair.trained if ours[name].any()]
    where = f" of {listed(names)}" if set(moved) - set(names) else ""
    remedy = f"{words}{where}: multiply the right learning rate by {1 / ratio:.4g}."
    # Those of two adaptive optimizers may be in one ratio in the first step alone.
    return Cause("learning rate", remedy, is_plain(pair))


def first_ratio(ratio: float, is_plain: bool) -> Cause | None:
    """Return the cause of first updates in a ratio that is known from optimizers, or None."""
    factor = max(ratio, 1 / ratio)
    words = f"The first updates of the {SIDES[int(ratio > 1)]} side are {factor:.4g} times the other's, as"
    if is_plain and any(abs(factor - 1 - beta) < CLOSE for beta in MOMENTA):
        remedy = f"{words} with Nesterov's momentum of {factor - 1:.2g}: set it alike."
        return Cause("Nesterov's momentum", remedy, False)
    if not is_plain and abs(factor / UNCORRECTED - 1) < CLOSE:
        remedy = (
            f"{words} with an Adam that does not correct the bias of its averages: correct it on both "
            "sides."
        )
        return Cause("bias correction", remedy, False)
    return None
