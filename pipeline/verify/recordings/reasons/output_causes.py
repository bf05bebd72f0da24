"""Likely causes of outputs, losses and running statistics that differ where the batch agrees."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.verify.checks.differences import relative
from pipeline.verify.recordings.reasons.proportions import proportion, remains
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Cause, Part

MOST_ARITHMETIC = 5e-3  # difference that TF32 makes


def activation(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Probabilities on one side, logits on the other."""
    for one in pair.fields[Part.training]:
        if one.left_name not in names or not one.is_comparable or one.left.ndim < 2:
            continue
        for side, before, after in (("right", one.left, one.right), ("left", one.right, one.left)):
            for name, function in ACTIVATIONS.items():
                if relative(function(before), after) <= 10 * pair.precision.bar:
                    remedy = f"The {side} outputs are the {name} of the other side's: record both before it."
                    return Cause(name, remedy, True)
    return None


def scaled_outputs(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Outputs in a constant ratio."""
    ratio = _ratio(pair, Part.training, names, 10 * pair.precision.bar)
    if ratio is None:
        return None
    remedy = (
        f"The right outputs are {ratio:.4g} times the left ones: look for a temperature or a scale."
    )
    return Cause("scale of the outputs", remedy, True)


def summed_loss(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Losses in the ratio of a number of samples or elements."""
    ratio = _ratio(pair, Part.loss, names, np.inf)
    if not ratio:
        return None
    larger, side, other = ratio, "right", "left"
    if abs(ratio) <= 1:
        larger, side, other = 1 / ratio, "left", "right"
    count = round(larger)
    if larger < 1.5 or abs(larger - count) > max(10 * pair.precision.bar, 1e-9) * larger:
        return None
    fields = [one.left for part in (Part.batch, Part.training) for one in pair.fields[part]]
    words = f"The {side} loss is {count} times the {other} one"
    if count in {size for a in fields if a.ndim for size in (len(a), a.size)}:
        remedy = (
            f"{words}, which is a number of its samples or elements: take the mean on both sides."
        )
        return Cause("sum instead of mean", remedy, True)
    remedy = f"{words}: look for a factor, such as accumulated steps."
    return Cause("scale of the loss", remedy, True)


def penalty(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """A loss that has the sum of all squared weights in it."""
    if pair.gradients is None:
        return None
    weights, _ = pair.lists(pair.before)
    differences = [b - a for a, b in zip(*pair.lists(pair.gradients), strict=True)]
    factor = proportion(weights, differences)
    if remains(factor, weights, differences) > 1e-2:
        return None
    remedy = (
        f"The {'right' if factor > 0 else 'left'} loss has a penalty of {abs(factor) / 2:.3g} times the "
        "squared weights in it: leave it out, or add it to the other."
    )
    return Cause("L2 penalty", remedy, True)


def arithmetic(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Differences as small as those of a matrix product in lower precision."""
    fields = [*pair.fields[Part.training], *pair.fields[Part.loss]]
    differences = [one.difference for one in fields if one.left_name in names]
    if pair.precision.name != "float32" or max(differences, default=1.0) > MOST_ARITHMETIC:
        return None
    remedy = (
        "It may be TF32 or bfloat16 in the matrix products of one side: record both in float64, or with "
        "torch.set_float32_matmul_precision('highest') and JAX_DEFAULT_MATMUL_PRECISION=highest."
    )
    return Cause("arithmetic", remedy, False)


def momentum_of_statistics(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Running statistics that move by another share in each step."""
    changes = pair.lists(pair.updates, names)
    ratio = proportion(*changes)
    if remains(ratio, *changes) > 1e-3 or 0.98 < ratio < 1.02 or ratio <= 0:
        return None
    remedy = (
        f"In one step the right running statistics move {ratio:.4g} times as far as the left ones: a "
        "momentum m of torch is 1 - m in Flax."
    )
    return Cause("momentum of running statistics", remedy, True)


def biased_variance(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Running variances, one over n elements, one over n - 1: `right = c · left + k · before`."""
    before = np.concatenate([pair.before[0][name].ravel() for name in names])
    ours, theirs = (np.concatenate([side[n].ravel() for n in names]) for side in pair.after)
    columns = np.stack([ours, before], 1)
    (slope, share), *_ = np.linalg.lstsq(columns, theirs, rcond=None)
    rest = np.abs(columns @ [slope, share] - theirs).max()
    if len(ours) < 4 or slope <= 0 or rest > 0.05 * np.abs(theirs - ours).max():
        return None
    larger = max(slope, 1 / slope)
    count = larger / (larger - 1) if larger > 1 else np.inf
    if count < 1.5 or count > 1e6 or abs(share / (1 - slope) - 0.5) > 0.5:
        return None
    biased, unbiased = ("left", "right") if slope > 1 else ("right", "left")
    remedy = (
        f"The variance of the {biased} side is over about n = {count:.3g} elements, that of the "
        f"{unbiased} side over n - 1: torch keeps the latter in its running variance, Flax the former."
    )
    return Cause("biased variance", remedy, True)


def _ratio(pair: StepPair, part: Part, names: Sequence[str], most: float) -> float | None:
    """Return the ratio of the right arrays to the left ones; None if it leaves more than `most`."""
    found = [one for one in pair.fields[part] if one.left_name in names]
    if not found or not all(one.is_comparable for one in found):
        return None
    sides = [one.left for one in found], [one.right for one in found]
    ratio = proportion(*sides)
    return ratio if remains(ratio, *sides) <= most else None


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": _softmax,
    "log-softmax": lambda x: np.log(np.maximum(_softmax(x), 1e-300)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-np.clip(x, -700, 700))),
}

OUTPUT_CAUSES = (activation, scaled_outputs, arithmetic)
LOSS_CAUSES = (summed_loss, penalty, arithmetic)
BUFFER_CAUSES = (momentum_of_statistics, biased_variance)
