"""Matches of vectors such as new biases, all zero, by the matrices that stand beside them."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import similarity


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
    is which follows from the rows of the matrices beside them.
    """

    def __init__(self, left: Weights, right: Weights, mapping: Mapping) -> None:
        self.left, self.right, self.mapping = left, right, mapping

    def match(self) -> None:
        """Match what can be."""
        for name in self.right.names:
            theirs = self.right.numbers[name].ravel()
            if not _is_vector(self.right.start[name]) or (self.mapping.source[theirs] >= 0).any():
                continue
            found = max(self._candidates(name), key=lambda pair: pair[0], default=None)
            if found is not None:
                self.mapping.add(found[1], theirs)

    def _candidates(self, name: str) -> Iterator[tuple[float, np.ndarray]]:
        """Yield left numbers for a right vector, with the similarity of the names."""
        size = self.right.start[name].size
        for sibling in self.right.names:
            array = self.right.start[sibling]
            if sibling == name or parent(sibling) != parent(name) or _is_vector(array):
                continue
            sources = self.mapping.source[self.right.numbers[sibling]]
            if (sources < 0).any():
                continue
            for axis in range(array.ndim):
                if array.shape[axis] == size:
                    yield from self._along(name, np.moveaxis(sources, axis, 0).reshape(size, -1))

    def _along(self, name: str, sources: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the vectors beside the left arrays that hold the rows of a right matrix."""
        owners = np.searchsorted(self.left.owners.ends, sources, side="right")
        if (owners != owners[:, :1]).any():
            return
        values = self.right.start[name].ravel()
        is_used = self.mapping.is_used
        numbers, likeness = np.full(len(sources), -1), []
        for owner in np.unique(owners[:, 0]):
            matrix = self.left.names[owner]
            shape, rows = self.left.start[matrix].shape, owners[:, 0] == owner
            vectors = [
                (other, self.left.numbers[other].ravel()[at])
                for axis, at in enumerate(self._coordinates(sources[rows], owner))
                if at is not None
                for other in self.left.names
                if parent(other) == parent(matrix)
                and _is_vector(self.left.start[other])
                and self.left.start[other].size == shape[axis]
            ]
            vectors = [(other, at) for other, at in vectors if not is_used[at].any()]
            if not vectors:
                return
            best, numbers[rows] = max(vectors, key=lambda pair: similarity(pair[0], name))
            likeness.append(similarity(best, name))
        if len(np.unique(numbers)) == len(numbers):
            is_same = np.array_equal(self.left.flat[numbers], values)
            yield is_same + float(np.mean(likeness)), numbers

    def _coordinates(self, sources: np.ndarray, owner: int) -> list[np.ndarray | None]:
        """Return the place of each row along each axis of a left array; None if it has no single one."""
        places = np.unravel_index(
            sources - self.left.owners.starts[owner], self.left.owners.arrays[owner].shape
        )
        return [at[:, 0] if (at == at[:, :1]).all() else None for at in places]


def parent(name: str) -> str:
    """Return the path of an array's layer."""
    return name.rpartition(".")[0]


def _is_vector(array: np.ndarray) -> bool:
    return bool(array.size) and array.size == max(array.shape, default=1)
