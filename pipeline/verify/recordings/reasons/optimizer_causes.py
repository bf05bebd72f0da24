"""Likely causes of updates of optimizers that are not the same, or not set alike."""

from collections.abc import Sequence

from pipeline.verify.recordings.reasons.adaptive import (
    AdaptiveFit,
    BetasFit,
    fit_adaptive,
    fit_betas,
)
from pipeline.verify.recordings.reasons.proportions import CLOSE, is_plain, update_difference
from pipeline.verify.recordings.reasons.rate_causes import first_ratio
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import SIDES, Cause


def optimizer(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """One side steps along the gradient, the other along its sign; or both along it, set otherwise."""
    if pair.number != 1 or pair.gradients is None:
        return None
    plain = [is_plain(pair, at) for at in (0, 1)]
    left, right = (None if plain[at] else fit_adaptive(*pair.elements(at)) for at in (0, 1))
    if left and right:
        # What a fit does not tell explains no difference of that size.
        is_told = max(left.rest, right.rest) < 0.1 * update_difference(pair, names)
        return _settings(left, right) if is_told else None
    if (plain[0] and right) or (plain[1] and left):
        side, other = SIDES if plain[0] else SIDES[::-1]
        remedy = (
            f"The {side} updates are proportional to the gradients, as SGD's; the {other} ones are all "
            "about as large, as Adam's: take one optimizer."
        )
        return Cause("optimizer", remedy, True)
    return None


def _settings(left: AdaptiveFit, right: AdaptiveFit) -> Cause | None:
    """Name the setting in which two adaptive optimizers differ."""
    both = f"about {left.epsilon:.2g} (left), {right.epsilon:.2g} (right)"
    if left.has_epsilon and right.has_epsilon and left.is_inside != right.is_inside:
        side = SIDES[int(right.is_inside)]
        remedy = f"The epsilon of the {side} side's optimizer is inside the root, one is outside: {both}."
        return Cause("epsilon inside or outside the root", remedy, False)
    ratio = right.rate / left.rate
    if known := first_ratio(ratio, is_plain=False):
        return known
    is_seen = left.has_epsilon or right.has_epsilon
    if is_seen and abs(left.epsilon - right.epsilon) > 0.05 * max(left.epsilon, right.epsilon):
        inside = any(fit.is_inside and fit.has_epsilon for fit in (left, right))
        what = "initial accumulator, or epsilon inside the root," if inside else "epsilon"
        return Cause(
            "epsilon of the optimizer", f"The optimizer's {what} is {both}: set it alike.", True
        )
    decay = max(abs(left.decay), abs(right.decay))
    if abs(ratio - 1) > CLOSE or abs(left.decay - right.decay) > 0.05 * decay:
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
    found: list[BetasFit] = []
    for at in (0, 1):
        fit = fit_adaptive(*first.elements(at))
        fitted = fit_betas(fit, first.elements(at)[1], *pair.elements(at)) if fit else None
        if fitted is None or fitted.rest > 0.1 * update_difference(pair, names):
            return None
        found.append(fitted)
    left, right = found
    for name, ours, theirs in (("beta1", left.one, right.one), ("beta2", left.two, right.two)):
        if abs(ours - theirs) > 0.05 * (1 - min(ours, theirs)):
            remedy = (
                f"Adam's betas are about ({left.one:.3g}, {left.two:.4g}) (left), ({right.one:.3g}, "
                f"{right.two:.4g}) (right): set them alike."
            )
            return Cause(name, remedy, True)
    return None
