"""Map between the elements of two models' arrays."""

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.trace.graph import Array

MOST_PARTS = 64  # of an array that is completed part by part
MOST_ELEMENTS = 2**22  # of such a part


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
        """Map the rest of an array of which some elements are mapped evenly: as a whole, or part by part.

        Not all rows of a table need be used by the inputs at hand, nor have all elements a gradient.
        """
        for index, array in enumerate(self.right.arrays):
            elements = self.right.elements(index)
            for depth in range(len(array.shape)):
                parts = elements.reshape(-1, *array.shape[depth:])
                if len(parts) > MOST_PARTS or (self.source[elements] >= 0).all():
                    break
                for part in parts:
                    self._extend(part)

    def _extend(self, theirs: np.ndarray) -> None:
        """Map the rest of a block of right elements, if the left ones are in order or evenly spaced."""
        theirs = np.squeeze(theirs)
        sources = self.source[theirs]
        is_known = sources >= 0
        if is_known.all() or not is_known.any():
            return
        owner = int(np.searchsorted(self.left.ends, sources[is_known][0], side="right"))
        whole = self.left.elements(owner)
        same_shape = np.squeeze(whole).shape == theirs.shape
        rest = whole.reshape(theirs.shape) if same_shape else None
        if rest is None or (rest[is_known] != sources[is_known]).any():
            rest = _evenly_spaced(sources, is_known)
        if rest is None or rest.min() < whole.min() or rest.max() > whole.max():
            return
        rest = rest[~is_known]
        self.source[theirs[~is_known]] = np.where(self.is_used[rest], -1, rest)

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


def _evenly_spaced(sources: np.ndarray, is_known: np.ndarray) -> np.ndarray | None:
    """Return numbers that are evenly spaced along all axes, from known ones; None if these are not."""
    if sources.size > MOST_ELEMENTS:
        return None
    places = np.stack([*np.indices(sources.shape), np.ones(sources.shape, int)], axis=-1)
    known, values = places[is_known], sources[is_known]
    if len(known) <= places.shape[-1]:
        return None
    steps, _, rank, _ = np.linalg.lstsq(known, values)
    steps = np.rint(steps).astype(int)
    is_even = rank == places.shape[-1] and np.array_equal(known @ steps, values)
    rest = places @ steps
    return rest if is_even and len(np.unique(rest)) == rest.size else None


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
