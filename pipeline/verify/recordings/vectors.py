"""Matches of arrays whose values say nothing, as biases of zeros do, by the matrices beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, takewhile

import numpy as np

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import similarity
from pipeline.verify.recordings.weights import Weights, agree_later

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Those elements along some axes of a right matrix that come from one left matrix."""

    matrix: str  # the left one
    rows: np.ndarray  # mask of the elements, along the right axes
    shape: Shape  # of the left axes along which they lie
    index: tuple[np.ndarray, ...]  # of each element, along each of the left axes


@dataclass(frozen=True)
class Axes:
    """Some axes of a right matrix, and the left axes that their elements come from."""

    matrix: str
    shape: Shape
    parts: list[Part]

    @property
    def is_whole(self) -> bool:
        """True if they are whole axes of one left array."""
        return len(self.parts) == 1 and np.prod(self.parts[0].shape) == np.prod(self.shape)

    @property
    def is_same(self) -> bool:
        """True if they are whole axes in the same order."""
        numbers = np.ravel_multi_index(self.parts[0].index, self.parts[0].shape)
        return self.is_whole and bool((np.diff(numbers) == 1).all())


class Vectors:
    """Matches vectors along the axes of matrices.

    The bias of a fused projection and those of its separate parts are all zero at the start: which element
    is which follows from the rows of the matrices beside them. The norms of layers that are stacked follow
    the stack; a norm of features that are flattened in another order follows the matrix behind it.
    """

    def __init__(self, left: Weights, right: Weights, mapping: Mapping) -> None:
        self.left, self.right, self.mapping = left, right, mapping
        self.is_used = mapping.is_used

    def match(self) -> None:
        """Match what can be."""
        source = self.mapping.source
        free = [n for n, numbers in self.right.numbers.items() if (source[numbers] < 0).all()]
        self.axes = list(self._find_axes({self.right.shape(name) for name in free}))
        for is_beside in (True, False):
            for name in free:
                theirs = self.right.numbers[name].ravel()
                if theirs.size and (source[theirs] < 0).all():
                    found = max(
                        self._candidates(name, is_beside), key=lambda one: one[0], default=None
                    )
                    if found is not None:
                        self.mapping.add(found[1], theirs)
                        self.is_used[found[1]] = True

    def _find_axes(self, shapes: set[Shape]) -> Iterator[Axes]:
        """Yield the axes of matched right matrices that have one of the shapes."""
        owners = self.left.owners
        for matrix, numbers in self.right.numbers.items():
            sources = np.squeeze(self.mapping.source[numbers])
            if (sources < 0).any():
                continue
            every = range(sources.ndim)
            for axes in chain.from_iterable(combinations(every, n) for n in every[1:]):
                shape = tuple(sources.shape[axis] for axis in axes)
                if shape in shapes:
                    rows = np.moveaxis(sources, axes, range(len(axes)))
                    rows = rows.reshape(int(np.prod(shape)), -1)
                    owner = np.searchsorted(owners.ends, rows, side="right")
                    first = list(dict.fromkeys(owner[:, 0].tolist()))
                    if (owner == owner[:, :1]).all():
                        parts = [self._part(one, rows, owner[:, 0] == one) for one in first]
                        if all(part.shape for part in parts):
                            yield Axes(matrix, shape, parts)

    def _part(self, owner: int, sources: np.ndarray, rows: np.ndarray) -> Part:
        matrix = self.left.names[owner]
        shape = self.left.shape(matrix)
        places = np.unravel_index(sources[rows] - self.left.owners.starts[owner], shape)
        along = [axis for axis, place in enumerate(places) if (place == place[:, :1]).all()]
        index = tuple(places[axis][:, 0] for axis in along)
        return Part(matrix, rows, tuple(shape[axis] for axis in along), index)

    def _candidates(self, name: str, is_beside: bool) -> Iterator[tuple[float, np.ndarray]]:
        """Yield left numbers for a right vector, each with a score."""
        for axes in self.axes:
            if (
                axes.shape != self.right.shape(name)
                or axes.matrix == name
                or (_parent(axes.matrix) != _parent(name) if is_beside else axes.is_same)
            ):
                continue
            theirs = self.right.numbers[name].ravel()
            ours, scores = np.full(len(theirs), -1), []
            for part in axes.parts:
                vectors = self._vectors(part, theirs[part.rows], name, is_beside)
                score, ours[part.rows] = max(vectors, key=lambda one: one[0], default=(-1.0, -1))
                scores.append(score)
            if min(scores) < 0 or len(np.unique(ours)) < len(ours):
                continue
            # In another order than on the left only if later steps of the recordings agree with it.
            if is_beside or not axes.is_whole or agree_later(self.left, self.right, ours, theirs):
                yield float(np.mean(scores)) + _nearness(axes.matrix, name), ours

    def _vectors(
        self, part: Part, theirs: np.ndarray, name: str, is_beside: bool
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the numbers of free left vectors along a part, each with a score."""
        for other, numbers in self.left.numbers.items():
            if self.left.shape(other) != part.shape or other == part.matrix:
                continue
            ours = np.squeeze(numbers)[part.index]
            if (is_beside and _parent(other) != _parent(part.matrix)) or self.is_used[ours].any():
                continue
            is_same = np.array_equal(self.left.flat[ours], self.right.flat[theirs])
            is_alike = agree_later(self.left, self.right, ours, theirs)
            near = similarity(other, name) + _nearness(other, part.matrix)
            yield is_same + 2 * is_alike + near, ours


def _nearness(name: str, other: str) -> float:
    """Share of the path of a layer that two names have in common."""
    parts = list(zip(name.split("."), other.split("."), strict=False))
    return len(list(takewhile(lambda pair: pair[0] == pair[1], parts))) / len(parts)


def _parent(name: str) -> str:
    """Return the path of an array's layer."""
    return name.rpartition(".")[0]
