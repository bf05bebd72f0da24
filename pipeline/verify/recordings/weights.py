"""Weights of one recording with the numbers of their elements, and what tells equal ones apart."""

from collections.abc import Sequence

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.trace.fingerprints import fingerprint, is_informative
from pipeline.verify.trace.graph import Array

ALIKE = 1e-3  # relative difference of what comes later, which may differ by rounding


class Weights:
    """Weights of one side at the start, and gradients and weights that come later."""

    def __init__(self, start: Arrays, later: Sequence[Arrays]) -> None:
        self.start, self.later, self.names = start, later, list(start)
        self.owners = Owners(tuple(Array(n, a.shape, str(a.dtype)) for n, a in start.items()))
        self.numbers = {name: self.owners.elements(at) for at, name in enumerate(start)}
        self.flat = self._flat(start)
        self.later_flat = [self._flat(arrays) for arrays in later]
        self.prints = {name: fingerprint(array) for name, array in start.items()}
        self.later_prints = [{n: fingerprint(a) for n, a in arrays.items()} for arrays in later]

    def _flat(self, arrays: Arrays) -> np.ndarray:
        """All elements by their number; what is absent is not a number."""
        parts = [arrays.get(name, np.full(a.shape, np.nan)) for name, a in self.start.items()]
        return np.concatenate([np.ravel(part) for part in parts])

    def is_constant(self, name: str) -> bool:
        """True if all values are the same."""
        return not is_informative(self.prints[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array, axes of length one left out."""
        return tuple(size for size in self.start[name].shape if size != 1)

    def are_tied(self, name: str, other: str) -> bool:
        """True if two arrays have the same values whenever both have some."""
        both = [one for one in (self.start, *self.later) if {name, other} <= set(one)]
        return all(np.array_equal(arrays[name], arrays[other]) for arrays in both)


def agree_later(left: Weights, right: Weights, ours: np.ndarray, theirs: np.ndarray) -> bool:
    """True if some gradients, or weights after a step, of these elements are the same, and not constant."""
    for one, other in zip(left.later_flat, right.later_flat, strict=True):
        x, y = one[ours.ravel()], other[theirs.ravel()]
        if np.ptp(y) and np.abs(x - y).max() <= ALIKE * np.abs(y).max():
            return True
    return False
