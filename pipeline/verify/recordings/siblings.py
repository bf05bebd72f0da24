"""Matches of arrays such as new biases, all zero, by the matrices that stand beside them."""

from collections.abc import Iterator
from itertools import combinations
from typing import Protocol

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import similarity

Shape = tuple[int, ...]


class Weights(Protocol):
    """Weights of one side with the numbers of their elements."""

    start: Arrays
    names: list[str]
    owners: Owners
    numbers: Arrays
    flat: np.ndarray


class Siblings:
    """Matches the vectors beside matrices that are matched.

    The bias of a fused projection and those of its separate parts are all zero at the start: which element
    is which follows from the rows of the matrices beside them. A vector has the shape of some axes of its
    matrix; axes of length one do not count.
    """

    def __init__(self, left: Weights, right: Weights, mapping: Mapping) -> None:
        self.left, self.right, self.mapping = left, right, mapping
        self.is_used = mapping.is_used

    def match(self) -> None:
        """Match what can be."""
        for name in self.right.names:
            theirs = self.right.numbers[name].ravel()
            if not theirs.size or (self.mapping.source[theirs] >= 0).any():
                continue
            found = max(self._candidates(name), key=lambda pair: pair[0], default=None)
            if found is not None:
                self.mapping.add(found[1], theirs)
                self.is_used[found[1]] = True

    def _candidates(self, name: str) -> Iterator[tuple[float, np.ndarray]]:
        """Yield left numbers for a right vector, with the similarity of the names."""
        vector = _without_ones(self.right.start[name].shape)
        for sibling in self.right.names:
            if sibling == name or parent(sibling) != parent(name):
                continue
            sources = np.squeeze(self.mapping.source[self.right.numbers[sibling]])
            if (sources < 0).any():
                continue
            for axes in _spans(sources.shape, vector):
                rows = np.moveaxis(sources, axes, range(len(axes)))
                yield from self._along(name, rows.reshape(self.right.start[name].size, -1))

    def _along(self, name: str, sources: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the vectors beside the left arrays that hold the rows of a right matrix."""
        owners = np.searchsorted(self.left.owners.ends, sources, side="right")
        if (owners != owners[:, :1]).any():
            return
        numbers, likeness = np.full(len(sources), -1), []
        for owner in np.unique(owners[:, 0]):
            rows = owners[:, 0] == owner
            vectors = self._vectors(owner, sources[rows])
            best = max(vectors, key=lambda pair: similarity(pair[0], name), default=None)
            if best is None:
                return
            numbers[rows] = best[1]
            likeness.append(similarity(best[0], name))
        if len(np.unique(numbers)) == len(numbers):
            is_same = np.array_equal(self.left.flat[numbers], self.right.start[name].ravel())
            yield is_same + float(np.mean(likeness)), numbers

    def _vectors(self, owner: int, sources: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the free vectors beside a left matrix, with their numbers in these rows of it."""
        matrix = self.left.names[owner]
        shape = _without_ones(self.left.start[matrix].shape)
        places = np.unravel_index(sources - self.left.owners.starts[owner], shape)
        for other in self.left.names:
            if other == matrix or parent(other) != parent(matrix):
                continue
            vector = np.squeeze(self.left.numbers[other])
            for axes in _spans(shape, vector.shape):
                if all((places[axis] == places[axis][:, :1]).all() for axis in axes):
                    numbers = vector[tuple(places[axis][:, 0] for axis in axes)]
                    if not self.is_used[numbers].any():
                        yield other, numbers


def parent(name: str) -> str:
    """Return the path of an array's layer."""
    return name.rpartition(".")[0]


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _spans(matrix: Shape, vector: Shape) -> Iterator[Shape]:
    """Yield axes of a matrix that have a vector's shape, but not all of its axes."""
    if 0 < len(vector) < len(matrix):
        for axes in combinations(range(len(matrix)), len(vector)):
            if tuple(matrix[axis] for axis in axes) == vector:
                yield axes
