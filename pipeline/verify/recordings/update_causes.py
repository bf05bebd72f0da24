"""Likely causes of updates that differ where the gradients agree."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.recordings.adaptive import AdaptiveFit, fit_adaptive, fit_betas
from pipeline.verify.recordings.gradient_causes import SIDES, norm
from pipeline.verify.recordings.regression import is_round, proportion, remains
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Cause

NO_BIAS_CORRECTION = 0.1 / sqrt(0.001)  # ratio of the first updates of Adam without and with it
MOMENTA = (0.8, 0.9, 0.95, 0.99)
CLOSE = 1e-3


def decay_of_unused(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Weights without a gradient on one side, with a zero one on the other."""
    if pair.gradients is None:
        return None
    for at, side in enumerate(SIDES):
        if set(names) <= pair.missing[at] and not any(
            pair.gradients[1 - at][n].any() for n in names
        ):
            remedy = (
                f"{_some(names)}: no gradient on the {side}, where the optimizer leaves it as it is; a "
                f"zero one on the {SIDES[1 - at]}, where weight decay and momentum still move it. "
                "Leave it out of both."
            )
            return Cause("gradient None against zero", remedy, True)
    return None


def learning_rate(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Updates in a constant ratio."""
    ours, theirs = pair.updates
    ratio = proportion([ours[name] for name in names], [theirs[name] for name in names])
    if ratio <= 0 or not _explains(pair, names, {n: ratio * ours[n] for n in names}):
        return None
    left, right = pair.rates
    if left and right and abs(right / left / ratio - 1) < CLOSE:
        remedy = (
            f"The learning rate is {left:.4g} on the left, {right:.4g} on the right: set it alike."
        )
        return Cause("learning rate", remedy, True)
    known = (_bias_correction(ratio) or _nesterov(pair, ratio)) if pair.number == 1 else None
    if known := known or _clipping(pair, ratio):
        return known
    words = f"The right updates are {ratio:.4g} times the left ones"
    if pair.number > 1:
        remedy = f"{words} at step {pair.number}, after equal ones: compare the schedules."
        return Cause("learning-rate schedule", remedy, True)
    moved = [name for name in pair.trained if ours[name].any()]
    where = f" of {_some(names)}" if set(moved) - set(names) else ""
    remedy = f"{words}{where}: multiply the right learning rate by {1 / ratio:.4g}."
    return Cause("learning rate", remedy, True)


def _bias_correction(ratio: float) -> Cause | None:
    factor = max(ratio, 1 / ratio)
    if abs(factor / NO_BIAS_CORRECTION - 1) >= CLOSE:
        return None
    remedy = (
        f"The first updates of the {SIDES[int(ratio > 1)]} side are {factor:.4g} times the other's, as with "
        "an Adam that does not correct the bias of its averages: correct it on both sides."
    )
    return Cause("bias correction", remedy, False)


def _nesterov(pair: StepPair, ratio: float) -> Cause | None:
    beta = max(ratio, 1 / ratio) - 1
    if not any(abs(beta - known) < CLOSE for known in MOMENTA) or not _is_plain(pair):
        return None
    remedy = (
        f"The first updates of the {SIDES[int(ratio > 1)]} side are {1 + beta:.4g} times the other's, as "
        f"with Nesterov's momentum of {beta:.2g}: set it alike."
    )
    return Cause("Nesterov's momentum", remedy, False)


def _clipping(pair: StepPair, ratio: float) -> Cause | None:
    if pair.gradients is None or is_round(ratio) or not _is_plain(pair):
        return None
    clipped = norm(pair.gradients[0], pair.trained) / max(ratio, 1 / ratio)
    if not is_round(clipped):
        return None
    remedy = (
        f"The {SIDES[int(ratio < 1)]} updates are those of gradients clipped to norm {clipped:.2g}: clip "
        "both, or none."
    )
    return Cause("gradient clipping", remedy, True)


def weight_decay(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Updates whose difference is a part of the weights."""
    ours, theirs = pair.updates
    weights = pair.before[0]
    factor = proportion([weights[n] for n in names], [theirs[n] - ours[n] for n in names])
    if not factor or not _explains(pair, names, {n: ours[n] + factor * weights[n] for n in names}):
        return None
    side, share = ("right" if factor < 0 else "left"), abs(factor)
    others = [name for name in pair.trained if name not in names and weights[name].any()]
    where = f"of {_some(names)} alone, not of {_some(others)}, " if others else ""
    rate = next((rate for rate in pair.rates if rate), None)
    amount = f" (at this learning rate, a weight decay of {share / rate:.3g})" if rate else ""
    remedy = (
        f"In this step the {side} side takes away {share:.3g} of the weights {where}more than the other"
        f"{amount}: set the weight decay alike."
    )
    return Cause("weight decay", remedy, True)


def momentum(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Updates whose difference is a part of the update before."""
    if pair.number != 2 or pair.earlier is None:
        return None
    ours, theirs = pair.updates
    last = pair.earlier.updates[0]
    factor = proportion([last[n] for n in names], [theirs[n] - ours[n] for n in names])
    if not factor or not _explains(pair, names, {n: ours[n] + factor * last[n] for n in names}):
        return None
    side = "right" if factor > 0 else "left"
    remedy = (
        f"The first update enters the second with a factor that is larger by {abs(factor):.3g} on "
        f"the {side}: set the momentum alike."
    )
    return Cause("momentum", remedy, True)


def optimizer(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """One side steps along the gradient, the other along its sign; or both along it, with another epsilon."""
    if pair.number != 1 or pair.gradients is None:
        return None
    plain = [_is_plain(pair, at) for at in (0, 1)]
    fits = [None if plain[at] else fit_adaptive(*_of_side(pair, at)) for at in (0, 1)]
    for at, (side, other) in enumerate((SIDES, SIDES[::-1])):
        if plain[at] and fits[1 - at]:
            remedy = (
                f"The {side} updates are proportional to the gradients, as SGD's; the {other} ones are all "
                "about as large, as Adam's: take one optimizer."
            )
            return Cause("optimizer", remedy, True)
    left, right = fits
    if left is None or right is None:
        return None
    return _settings(left, right)


def _settings(left: AdaptiveFit, right: AdaptiveFit) -> Cause | None:
    """Name the setting in which two adaptive optimizers differ."""
    if left.is_inside != right.is_inside:
        inside = SIDES[int(right.is_inside)]
        remedy = (
            f"The epsilon of the {inside} side's optimizer is inside the root, the other's outside."
        )
        return Cause("epsilon inside or outside the root", remedy, False)
    ratio = right.rate / left.rate
    if known := _bias_correction(ratio):
        return known
    difference = abs(left.epsilon - right.epsilon)
    is_told = difference > 10 * left.size * max(left.rest, right.rest)
    if is_told and difference > 0.05 * max(left.epsilon, right.epsilon):
        remedy = (
            f"The optimizer's epsilon is about {left.epsilon:.2g} (left) and {right.epsilon:.2g} (right): "
            "set it alike."
        )
        return Cause("epsilon of the optimizer", remedy, True)
    if abs(ratio - 1) > CLOSE or abs(left.decay - right.decay) > 0.05 * max(
        abs(left.decay), abs(right.decay)
    ):
        remedy = (
            f"Left: learning rate {left.rate:.4g}, weight decay {left.decay:.3g}; right: {right.rate:.4g}, "
            f"{right.decay:.3g}. Set them alike."
        )
        return Cause("learning rate and weight decay", remedy, True)
    return None


def betas(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Averages of gradients and of their squares that forget at another rate."""
    first = pair.earlier
    if pair.number != 2 or first is None or first.number != 1:
        return None
    if pair.gradients is None or first.gradients is None:
        return None
    found: list[tuple[float, float]] = []
    for at in (0, 1):
        fit = fit_adaptive(*_of_side(first, at))
        last = np.concatenate([first.gradients[at][n].ravel() for n in pair.trained])
        fitted = fit_betas(fit, last, *_of_side(pair, at)) if fit else None
        if fitted is None:
            return None
        found.append(fitted)
    left, right = found
    for index, name in enumerate(("beta1", "beta2")):
        if abs(left[index] - right[index]) > 0.02 * (1 - min(left[index], right[index])):
            remedy = f"Adam's betas are about {_pair(left)} (left), {_pair(right)} (right): set them alike."
            return Cause(name, remedy, True)
    return None


def _pair(values: tuple[float, float]) -> str:
    return f"({values[0]:.3g}, {values[1]:.4g})"


def _of_side(pair: StepPair, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all updates, gradients and weights of a side, of the elements that tell something."""
    gradients = pair.gradients
    assert gradients is not None
    sides = pair.updates[at], gradients[at], pair.before[at]
    update, gradient, weights = (
        np.concatenate([s[n].ravel() for n in pair.trained]) for s in sides
    )
    return update, gradient, weights


def _is_plain(pair: StepPair, at: int = 0) -> bool:
    """True if a side's updates are proportional to its gradients."""
    if pair.gradients is None:
        return False
    arrays = [[side[n] for n in pair.trained] for side in (pair.gradients[at], pair.updates[at])]
    return remains(proportion(*arrays), *arrays) < CLOSE


def _explains(pair: StepPair, names: Sequence[str], predicted: Arrays) -> bool:
    """True if what is predicted of the right updates leaves next to nothing of the difference."""
    ours, theirs = pair.updates
    before = max(pair.excess(name, theirs[name] - ours[name]) for name in names)
    after = max(pair.excess(name, theirs[name] - predicted[name]) for name in names)
    return after <= max(10 * pair.precision.bar, CLOSE * before) and after < 0.1 * before


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "…"] if len(names) > 3 else names)


UPDATE_CAUSES = (decay_of_unused, learning_rate, weight_decay, momentum, optimizer, betas)
