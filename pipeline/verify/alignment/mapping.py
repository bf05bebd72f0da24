"""Map between the elements of two models' arrays."""

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.trace.graph import Array


class Mapping:
    """The left element of each right element, by number; -1: it has none."""

    def __init__(self, left: tuple[Array, ...], right: tuple[Array, ...]) -> None:
        self.left, self.right = Owners(left), Owners(right)
        self.source = np.full(self.right.size, -1, np.int64)

    def copy(self) -> "Mapping":
        """Return a map of the same elements."""
        copied = Mapping(self.left.arrays, self.right.arrays)
        copied.source[:] = self.source
        return copied

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Map right elements to left ones; a right element that has one keeps it."""
        valid = (ours >= 0) & (theirs >= 0)
        ours, theirs = ours[valid], theirs[valid]
        new = self.source[theirs] < 0
        self.source[theirs[new]] = ours[new]

    def extend(self) -> None:
        """Map the rest of an array of which some elements are mapped one after the other.

        Not all rows of a table need be used by the inputs at hand.
        """
        used = self.is_used
        for index, array in enumerate(self.right.arrays):
            sources = self.source[self.right.elements(index)].ravel()
            known = np.flatnonzero(sources >= 0)
            if not 0 < len(known) < len(sources):
                continue
            owner = int(np.searchsorted(self.left.ends, sources[known[0]], side="right"))
            whole = self.left.elements(owner).ravel()
            same_shape = np.squeeze(self.left.elements(owner)).shape == _squeezed(array.shape)
            if not same_shape or (whole[known] != sources[known]).any():
                continue
            rest = np.flatnonzero((sources < 0) & ~used[whole])
            self.source[self.right.starts[index] + rest] = whole[rest]

    @property
    def is_used(self) -> np.ndarray:
        """True for each left element that some right element has."""
        used = np.zeros(self.left.size, bool)
        used[self.source[self.source >= 0]] = True
        return used

    def to_right(self, left: Arrays, right: Arrays) -> Arrays:
        """Return the right arrays with the values of left ones; an element without one keeps its own."""
        flat = _flat(left, self.left)
        own = _flat(right, self.right)
        known = self.source >= 0
        own[known] = flat[self.source[known]]
        return _arrays(own, self.right)

    def to_left(self, right: Arrays, left: Arrays) -> Arrays:
        """Return the left arrays with the values of right ones; of several, the last."""
        own = _flat(left, self.left)
        known = self.source >= 0
        own[self.source[known]] = _flat(right, self.right)[known]
        return _arrays(own, self.left)

    def sums_to_left(self, right: Arrays) -> Arrays:
        """Return the sums of the right values of each left element: gradients of tied parameters."""
        sums = np.zeros(self.left.size)
        known = self.source >= 0
        np.add.at(sums, self.source[known], _flat(right, self.right)[known])
        return _arrays(sums, self.left)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _flat(arrays: Arrays, owners: Owners) -> np.ndarray:
    """All elements in their numbers' order; an absent array is zero."""
    parts = [
        np.ravel(arrays[array.name])
        if array.name in arrays
        else np.zeros(int(np.prod(array.shape)))
        for array in owners.arrays
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def _arrays(flat: np.ndarray, owners: Owners) -> Arrays:
    return {
        array.name: flat[start:end].reshape(array.shape)
        for array, start, end in zip(owners.arrays, owners.starts, owners.ends, strict=True)
    }
