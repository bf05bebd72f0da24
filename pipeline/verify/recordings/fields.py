"""Pairs of the arrays of a batch, of outputs and of losses of two recordings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
            self.names = dict(_matched(ours, theirs))
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


def _matched(left: Arrays, right: Arrays) -> Iterator[tuple[str, str]]:
    """Yield names that belong together: of the same values, else of similar names, else in order."""
    prints = ({n: fingerprint(as_classes(a)) for n, a in side.items()} for side in (left, right))
    ours, theirs = prints
    free = list(right)

    def are_same(name: str, other: str) -> bool:
        near = distance(ours[name], theirs[other]) <= ALIKE
        return near and is_informative(ours[name]) and left[name].size == right[other].size

    pending = []
    for name in left:
        same = [other for other in free if are_same(name, other)]
        if same:
            best = max(same, key=lambda other: similarity(name, other))
            free.remove(best)
            yield name, best
        else:
            pending.append(name)
    unnamed = []
    for name in pending:
        if name in free or any(similarity(name, other) > 0 for other in free):
            best = max(free, key=lambda other: (name == other, similarity(name, other)))
            free.remove(best)
            yield name, best
        else:
            unnamed.append(name)
    for name in unnamed:
        like = [other for other in free if left[name].size == right[other].size] or free
        if like:
            free.remove(like[0])
            yield name, like[0]


def as_classes(array: np.ndarray) -> np.ndarray:
    """Return the classes of a one-hot array; any other array as it is."""
    if array.ndim < 2 or array.shape[-1] < 2:
        return array
    is_one_hot = np.isin(array, (0, 1)).all() and (array.sum(-1) == 1).all()
    return array.argmax(-1).astype(np.float64) if is_one_hot else array
