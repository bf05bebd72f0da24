"""Differences of arrays of two models, and the bar below which they are rounding."""

from itertools import permutations

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.sides.outputs import LOSS

BAR = 1e-10  # largest accepted difference in float64
MARGIN = 100  # accepted multiple of a side's own noise
MOST_NOISE = 1e-6  # above which noise hides mistakes, and nothing is called the same
# A difference is relative to the array's own largest number, or to this fraction of the largest of all
# arrays: one that is zero except for rounding (the gradient of a bias before a norm) does not count.
NEGLIGIBLE = 1e-4

Axes = tuple[int, ...]  # permutation from the right side's layout to the left's, unit axes left out


def largest(array: np.ndarray) -> float:
    """Return the largest magnitude; 0 of an empty array."""
    return float(np.abs(array).max()) if array.size else 0.0


def relative(left: np.ndarray, right: np.ndarray, smallest: float = 0.0) -> float:
    """Return the largest difference over the largest number, or over `smallest`; inf if not finite."""
    if np.array_equal(left, right):
        return 0.0
    value = largest(left - right) / max(largest(left), largest(right), smallest, 1e-300)
    return value if np.isfinite(value) else np.inf


def by_name(left: Arrays, right: Arrays, negligible: float = NEGLIGIBLE) -> dict[str, float]:
    """Compare arrays of the same names; each on its own scale, or on a fraction of the largest one."""
    scale = max((largest(array) for array in (*left.values(), *right.values())), default=0.0)
    return {name: relative(left[name], right[name], negligible * scale) for name in left}


class Layout:
    """How an output of the right side is laid out as that of the left."""

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        """Choose the permutation of axes with the smallest difference, unit axes left out.

        Raises:
            ValueError: no permutation gives the same shape.
        """
        self.left, self.right = left.shape, right.shape
        ours, theirs = np.squeeze(left), np.squeeze(right)
        orders = [
            axes
            for axes in permutations(range(theirs.ndim))
            if tuple(theirs.shape[axis] for axis in axes) == ours.shape
        ]
        if not orders:
            raise ValueError(f"{list(left.shape)} against {list(right.shape)}")
        self.axes: Axes = min(orders, key=lambda axes: relative(ours, theirs.transpose(axes)))

    def to_left(self, right: np.ndarray) -> np.ndarray:
        """Lay out a right array as the left one, unit axes left out; other sizes are accepted."""
        return np.squeeze(right).transpose(self.axes)

    def to_right(self, left: np.ndarray) -> np.ndarray:
        """Lay out a left array as the right one."""
        return np.squeeze(left).transpose(np.argsort(self.axes)).reshape(self.right)


def match_outputs(left: Arrays, right: Arrays) -> dict[str, str]:
    """Match output leaves by path where any agrees, else in order; those that fit in size only."""
    pairs = {path: path for path in left if path in right}
    if not pairs.keys() - {LOSS}:
        others = [[path for path in side if path != LOSS] for side in (left, right)]
        pairs |= dict(zip(*others, strict=False))
    return {ours: theirs for ours, theirs in pairs.items() if left[ours].size == right[theirs].size}
