"""Likely causes of a difference between two recorded steps."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.verify.recordings.reasons.batch_causes import BATCH_CAUSES
from pipeline.verify.recordings.reasons.gradient_causes import GRADIENT_CAUSES
from pipeline.verify.recordings.reasons.regression import proportion, remains
from pipeline.verify.recordings.reasons.update_causes import UPDATE_CAUSES
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Cause, Part

Find = Callable[[StepPair, Sequence[str]], Cause | None]
MOST_ARITHMETIC = 5e-3  # difference that TF32 makes


def find_cause(part: Part, pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Return the first cause that explains the differences of the named arrays, or None."""
    for find in CAUSES.get(part, ()):
        if cause := find(pair, names):
            return cause
    return None


def activation(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Probabilities on one side, logits on the other."""
    for one in pair.outputs:
        if one.left_name not in names or not one.is_comparable or one.left.ndim < 2:
            continue
        for side, before, after in (("right", one.left, one.right), ("left", one.right, one.left)):
            for name, function in ACTIVATIONS.items():
                if _is_close(function(before), after, pair):
                    remedy = f"The {side} outputs are the {name} of the other side's: record both before it."
                    return Cause(name, remedy, True)
    return None


def scaled_outputs(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Outputs in a constant ratio."""
    found = [one for one in pair.outputs if one.left_name in names]
    if not all(one.is_comparable for one in found):
        return None
    ratio = proportion([one.left for one in found], [one.right for one in found])
    if (
        remains(ratio, [one.left for one in found], [one.right for one in found])
        > 10 * pair.precision.bar
    ):
        return None
    remedy = (
        f"The right outputs are {ratio:.4g} times the left ones: look for a temperature or a scale."
    )
    return Cause("scale of the outputs", remedy, True)


def summed_loss(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Losses in the ratio of a number of samples or elements."""
    losses = [one for one in pair.loss if one.left_name in names and one.is_comparable]
    if not losses:
        return None
    ratio = proportion([one.left for one in losses], [one.right for one in losses])
    larger, side, other = (
        (ratio, "right", "left") if abs(ratio) > 1 else (1 / (ratio or 1e-300), "left", "right")
    )
    if larger < 1.5 or abs(larger - round(larger)) > max(10 * pair.precision.bar, 1e-9) * larger:
        return None
    count = round(larger)
    fields = [one.left for one in (*pair.batch, *pair.outputs)]
    sizes = {array.shape[0] for array in fields if array.ndim} | {array.size for array in fields}
    words = f"The {side} loss is {count} times the {other} one"
    if count in sizes:
        remedy = (
            f"{words}, which is a number of its samples or elements: take the mean on both sides."
        )
        return Cause("sum instead of mean", remedy, True)
    return Cause(
        "scale of the loss", f"{words}: look for a factor, such as accumulated steps.", True
    )


def penalty(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """A loss that has the sum of all squared weights in it."""
    if pair.gradients is None:
        return None
    weights = [pair.before[0][name] for name in pair.trained]
    ours, theirs = ([side[name] for name in pair.trained] for side in pair.gradients)
    differences = [b - a for a, b in zip(ours, theirs, strict=True)]
    factor = proportion(weights, differences)
    if remains(factor, weights, differences) > 1e-2:
        return None
    side = "right" if factor > 0 else "left"
    remedy = (
        f"The {side} loss has a penalty of {abs(factor) / 2:.3g} times the squared weights in it: leave it "
        "out, or add it to the other."
    )
    return Cause("L2 penalty", remedy, True)


def arithmetic(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Differences as small as those of a matrix product in lower precision."""
    fields = [one.difference for one in (*pair.outputs, *pair.loss) if one.left_name in names]
    if pair.precision.name != "float32" or max(fields, default=1.0) > MOST_ARITHMETIC:
        return None
    remedy = (
        "It may be TF32 or bfloat16 in the matrix products of one side: record both in float64, or with "
        "torch.set_float32_matmul_precision('highest') and JAX_DEFAULT_MATMUL_PRECISION=highest."
    )
    return Cause("arithmetic", remedy, False)


def momentum_of_statistics(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Running statistics that move by another share in each step."""
    changes = [[side[name] for name in names] for side in pair.updates]
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


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": _softmax,
    "log-softmax": lambda x: np.log(np.maximum(_softmax(x), 1e-300)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-np.clip(x, -700, 700))),
}


def _is_close(one: np.ndarray, other: np.ndarray, pair: StepPair) -> bool:
    return bool(np.abs(one - other).max() <= 10 * pair.precision.bar * np.abs(other).max())


CAUSES: dict[Part, tuple[Find, ...]] = {
    Part.batch: BATCH_CAUSES,
    Part.training: (activation, scaled_outputs, arithmetic),
    Part.loss: (summed_loss, penalty, arithmetic),
    Part.buffers: (momentum_of_statistics, biased_variance),
    Part.gradient: (*GRADIENT_CAUSES, penalty),
    Part.update: UPDATE_CAUSES,
}
