"""Pairs of the arrays of a batch, of outputs and of losses of two recordings."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.names import similarity
from pipeline.verify.checks.differences import Layout, relative
from pipeline.verify.trace.fingerprints import distance, fingerprint, is_informative

ALIKE = 1e-3  # of fingerprints that may be those of the same values


@dataclass(frozen=True)
class FieldPair:
    """An array of either side, the right one laid out as the left."""

    left_name: str
    right_name: str
    left: np.ndarray
    right: np.ndarray
    is_comparable: bool = True  # False if the shapes do not fit

    @property
    def difference(self) -> float:
        """Largest difference, relative to the largest number; inf if the shapes do not fit."""
        return relative(self.left, self.right) if self.is_comparable else np.inf


class Fields:
    """Pairs of names and their layouts, found in the first step that has them."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.layouts: dict[str, Layout] = {}
        self.alone: dict[str, list[str]] = {"left": [], "right": []}

    def pair(self, left: Arrays, right: Arrays) -> list[FieldPair]:
        """Return the pairs of a step."""
        ours, theirs = ({n: np.asarray(a, np.float64) for n, a in s.items()} for s in (left, right))
        if not self.names:
            self.names = _matched(ours, theirs)
            matched = set(self.names.values())
            self.alone = {
                "left": [name for name in ours if name not in self.names],
                "right": [name for name in theirs if name not in matched],
            }
        known = [(o, t) for o, t in self.names.items() if o in ours and t in theirs]
        return [self._pair(o, t, ours[o], theirs[t]) for o, t in known]

    def _pair(self, ours: str, theirs: str, left: np.ndarray, right: np.ndarray) -> FieldPair:
        if left.size != right.size:
            left, right = as_classes(left), as_classes(right)
        if left.size != right.size:
            return FieldPair(ours, theirs, left, right, is_comparable=False)
        try:
            layout = self.layouts.setdefault(ours, Layout(left, right))
            return FieldPair(ours, theirs, np.squeeze(left), layout.to_left(right))
        except ValueError:  # flat on one side
            return FieldPair(ours, theirs, left.ravel(), right.ravel())


def _matched(left: Arrays, right: Arrays) -> dict[str, str]:
    """Match names: those of the same values, else similar ones, else those of a size, else in order."""
    sides = [{n: as_classes(array) for n, array in side.items()} for side in (left, right)]
    ours, theirs = ([(n, a.size, fingerprint(a)) for n, a in side.items()] for side in sides)
    gain = np.zeros((len(left), len(right)))
    for i, (name, size, print_) in enumerate(ours):
        for j, (other, other_size, other_print) in enumerate(theirs):
            is_near = is_informative(print_) and distance(print_, other_print) <= ALIKE
            gain[i, j] = 10 * (is_near and size == other_size) + (name == other)
            gain[i, j] += similarity(name, other) + 0.1 * (size == other_size) - 1e-3 * abs(i - j)
    pairs = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
    return {ours[i][0]: theirs[j][0] for i, j in pairs}


def as_classes(array: np.ndarray) -> np.ndarray:
    """Return the classes of a one-hot array; any other array as it is."""
    if array.ndim < 2 or array.shape[-1] < 2:
        return array
    is_one_hot = np.isin(array, (0, 1)).all() and (array.sum(-1) == 1).all()
    return array.argmax(-1).astype(np.float64) if is_one_hot else array
