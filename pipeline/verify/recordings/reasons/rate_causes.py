"""Likely causes of updates in a constant ratio."""

from collections.abc import Sequence
from math import sqrt

from pipeline.verify.recordings.reasons.gradient_causes import gradient_norms
from pipeline.verify.recordings.reasons.proportions import CLOSE, explained, is_plain, is_round
from pipeline.verify.recordings.reasons.wording import SIDES, listed
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Cause

MOMENTA = (0.8, 0.9, 0.95, 0.99)
# Ratios of first updates of optimizers with the same learning rate.
KNOWN = {
    0.1 / sqrt(0.001): (
        "bias correction",
        "as with an Adam that does not correct the bias of its averages: correct it on both sides",
    ),
    10.0: ("optimizer", "as RMSprop's with an alpha of 0.99 beside Adam's: take one optimizer"),
}


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
    known = (known_ratio(ratio) or _nesterov(pair, ratio)) if pair.number == 1 else None
    if known := known or _clipping(pair, ratio):
        return known
    words = f"The right updates are {ratio:.4g} times the left ones"
    if pair.number > 1:
        remedy = f"{words} at step {pair.number}, after equal ones: compare the schedules."
        return Cause("learning-rate schedule", remedy, True)
    moved = [name for name in pair.trained if ours[name].any()]
    where = f" of {listed(names)}" if set(moved) - set(names) else ""
    remedy = f"{words}{where}: multiply the right learning rate by {1 / ratio:.4g}."
    # Those of two adaptive optimizers may be in one ratio in the first step alone.
    return Cause("learning rate", remedy, is_plain(pair))


def known_ratio(ratio: float) -> Cause | None:
    """Return the cause of first updates in a ratio that is known from optimizers, or None."""
    factor = max(ratio, 1 / ratio)
    for known, (name, words) in KNOWN.items():
        if abs(factor / known - 1) < CLOSE:
            side = SIDES[int(ratio > 1)]
            remedy = (
                f"The first updates of the {side} side are {factor:.4g} times the other's, {words}."
            )
            return Cause(name, remedy, False)
    return None


def _nesterov(pair: StepPair, ratio: float) -> Cause | None:
    beta = max(ratio, 1 / ratio) - 1
    if not any(abs(beta - known) < CLOSE for known in MOMENTA) or not is_plain(pair):
        return None
    remedy = (
        f"The first updates of the {SIDES[int(ratio > 1)]} side are {1 + beta:.4g} times the other's, as "
        f"with Nesterov's momentum of {beta:.2g}: set it alike."
    )
    return Cause("Nesterov's momentum", remedy, False)


def _clipping(pair: StepPair, ratio: float) -> Cause | None:
    if pair.gradients is None or is_round(ratio) or not is_plain(pair):
        return None
    clipped = gradient_norms(pair)[0] / max(ratio, 1 / ratio)
    if not is_round(clipped):
        return None
    remedy = (
        f"The {SIDES[int(ratio < 1)]} updates are those of gradients clipped to norm {clipped:.2g}: clip "
        "both, or none."
    )
    return Cause("gradient clipping", remedy, True)
