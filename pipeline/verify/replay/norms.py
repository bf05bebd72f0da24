"""Statistics by which norms divide."""

import math
from collections.abc import Sequence
from typing import Any

from pipeline.verify.replay.shapes import shaped


def mean(xp: Any, x: Any, axes: Sequence[int]) -> Any:
    """Mean over axes, which keep the size 1."""
    return xp.sum(x, tuple(axes)) / math.prod(x.shape[axis] for axis in axes)


# Kinds of what a norm divides by: of which variance, and whether epsilon is added to its root.
DEVIATIONS = (
    "variance",
    "unbiased",
    "square",
    "variance outside",
    "unbiased outside",
    "square outside",
)


def deviation(xp: Any, x: Any, axes: Sequence[int], epsilon: float, kind: str) -> Any:
    """Return what a norm over some axes divides by, of one of `DEVIATIONS`."""
    count = math.prod(x.shape[axis] for axis in axes)
    centered = x if kind.startswith("square") else x - mean(xp, x, axes)
    variance = xp.sum(centered * centered, tuple(axes)) / (count - kind.startswith("unbiased"))
    return xp.sqrt(variance) + epsilon if kind.endswith("outside") else xp.sqrt(variance + epsilon)


def normal(
    xp: Any, like: Any, x: Any, old: Sequence[int], axes: Sequence[int], epsilon: float, kind: str,
    inverse: bool,
) -> Any:  # fmt: skip
    """Return what a norm divides by, or its inverse, in place of one over the axes `old`."""
    y = deviation(xp, x, axes, epsilon, kind)
    return _reduced(xp, 1 / y if inverse else y, x, old, like)


def other_mean(xp: Any, like: Any, x: Any, old: Sequence[int], axes: Sequence[int]) -> Any:
    """Return a mean in place of one over the axes `old`."""
    return _reduced(xp, mean(xp, x, axes), x, old, like)


def _reduced(xp: Any, y: Any, x: Any, old: Sequence[int], like: Any) -> Any:
    sizes = [1 if axis in old else size for axis, size in enumerate(x.shape)]
    if math.prod(sizes) == math.prod(like.shape):
        y = xp.broadcast(y, sizes)
    return shaped(y, like, xp)
