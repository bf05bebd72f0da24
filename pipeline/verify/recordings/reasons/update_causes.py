"""Likely causes of updates that differ where the gradients agree."""

from collections.abc import Sequence

import numpy as np

from pipeline.verify.recordings.reasons.optimizer_causes import betas, optimizer
from pipeline.verify.recordings.reasons.proportions import explained, proportion
from pipeline.verify.recordings.reasons.rate_causes import learning_rate
from pipeline.verify.recordings.reasons.wording import listed
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import SIDES, Cause


def decay_of_unused(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Weights without a gradient on one side, with a zero one on the other."""
    if pair.gradients is None:
        return None
    for at, side in enumerate(SIDES):
        other = pair.gradients[1 - at]
        if set(names) <= pair.missing[at] and not any(other[name].any() for name in names):
            remedy = (
                f"{listed(names)}: no gradient on the {side}, where the optimizer leaves it as it is; a zero "
                f"one on the {SIDES[1 - at]}, where weight decay and momentum move it. Leave it out of both."
            )
            return Cause("gradient None against zero", remedy, True)
    return None


def weight_decay(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Updates whose difference is a part of the weights."""
    (ours, theirs), weights = pair.updates, pair.before[0]
    factor = explained(pair, names, weights)
    if factor is None:
        return None
    side, share = ("right" if factor < 0 else "left"), abs(factor)
    others = [
        name
        for name in pair.trained
        if weights[name].any()
        and abs(proportion([weights[name]], [theirs[name] - ours[name]])) < 0.1 * share
    ]
    where = f"of {listed(names)} alone, not of {listed(others)}, " if others else ""
    rate = next((rate for rate in pair.rates if rate), None)
    amount = f" (at this learning rate, a weight decay of {share / rate:.3g})" if rate else ""
    remedy = (
        f"In this step the {side} side takes away {share:.3g} of the weights {where}more than the other"
        f"{amount}: set the weight decay alike."
    )
    return Cause("weight decay", remedy, True)


def decay_in_gradient(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """An Adam whose steps have the sign of gradient + decay · weight on one side alone."""
    if pair.number != 1 or pair.gradients is None:
        return None
    decays = [_decay_in_sign(*pair.elements(at)) for at in (0, 1)]
    if None in decays or (decays[0] == 0) == (decays[1] == 0):
        return None
    at = int(decays[1] != 0)
    remedy = (
        f"The {SIDES[at]} optimizer adds about {decays[at]:.2g} times the weights to the gradients before "
        "it divides by their size, as torch's Adam does with weight_decay; the other does not: take AdamW on "
        "both sides."
    )
    return Cause("decay in the gradient", remedy, True)


def _decay_in_sign(update: np.ndarray, gradient: np.ndarray, weights: np.ndarray) -> float | None:
    """Return the decay of updates with the sign of `gradient + decay · weight`; None: they have not."""
    moved = np.flatnonzero((update != 0) & (gradient != 0))
    sizes = np.abs(update[moved])
    if len(moved) < 32 or np.quantile(sizes, 0.25) < 0.8 * np.median(sizes):
        return None  # no Adam
    u, g, w = update[moved], gradient[moved], weights[moved]
    decays = np.array([0.0, *np.logspace(-7, 1, 81)])
    wrong = np.array([np.mean(np.sign(g + decay * w) != -np.sign(u)) for decay in decays])
    if wrong[0] <= 1e-3:
        return 0.0
    best = decays[wrong == wrong.min()]
    return float(np.exp(np.log(best).mean())) if wrong.min() < 0.1 * wrong[0] else None


def momentum(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Updates whose difference is a part of the update before, or of the gradient."""
    if pair.number != 2 or pair.earlier is None:
        return None
    sources = {"The first update": pair.earlier.updates[0]}
    if pair.gradients is not None:
        sources["The gradient"] = pair.gradients[0]
    for source, arrays in sources.items():
        factor = explained(pair, names, arrays)
        if factor is None:
            continue
        is_larger = factor > 0 if source == "The first update" else factor < 0
        remedy = (
            f"{source} enters the second update with a factor that is larger by {abs(factor):.3g} on the "
            f"{SIDES[int(is_larger)]}: set momentum and dampening alike."
        )
        return Cause("momentum", remedy, True)
    return None


UPDATE_CAUSES = (
    decay_of_unused,
    learning_rate,
    weight_decay,
    momentum,
    optimizer,
    decay_in_gradient,
    betas,
)
