"""Blocks of arrays, found from the numbers of their elements."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pipeline.verify.names.grids import Grid, find_grid, refined
from pipeline.verify.names.notation import Block, Item, Shape


@dataclass(frozen=True)
class _Level:
    """One axis of an array's finest shape: its length, and the slice of it in the block."""

    size: int
    start: int
    count: int

    @property
    def is_full(self) -> bool:
        return self.count == self.size


def find_block(name: str, elements: np.ndarray, shape: Shape) -> tuple[Block, Shape] | None:
    """Return the block of an array that holds some of its elements, and its shape, or None.

    `elements` are their places in the flattened array, ascending.
    """
    if len(elements) == prod(shape):
        return Block(name), shape
    grid = find_grid(elements, elements)
    if grid is None or not len(elements):
        return None
    fine, coarse = (
        _levels(axes, int(elements[0]), prod(shape))
        for axes in (refined(grid, shape, is_left=False), grid)
    )
    if fine and (index := _own_index(_digits(fine, shape), shape)):
        return _indexed(name, None, shape, index)
    for levels in (fine, coarse):
        if levels:
            levels = [part for level in levels for part in _parts(level)]
            sizes = tuple(level.size for level in levels)
            return _indexed(name, sizes, sizes, [(lev.start, lev.count) for lev in levels])
    return None


def _levels(grid: Grid, base: int, size: int) -> list[_Level] | None:
    """Return the axes of the array that a grid is a block of, or None."""
    levels, period = [], size
    for axis in grid:
        if period % axis.right:
            return None
        length = period // axis.right
        start = base // axis.right % length
        if start + axis.size > length:
            return None
        levels.append(_Level(length, start, axis.size))
        period = axis.right
    return levels + ([_Level(period, base % period, 1)] if period > 1 else [])


def _digits(levels: Sequence[_Level], shape: Shape) -> Iterator[_Level]:
    """Split the levels where an axis of the array's own shape begins, if their slices allow it."""
    borders = [prod(shape[at:]) for at in range(1, len(shape))]
    stride = prod(level.size for level in levels)
    for level in levels:
        stride //= level.size
        for border in borders:
            inner = border // stride if border % stride == 0 else 0
            if inner and 1 < inner < level.size and level.size % inner == 0:
                start, rest = divmod(level.start, inner)
                if rest + level.count <= inner:
                    yield _Level(level.size // inner, start, 1)
                    level = _Level(inner, rest, level.count)
        yield level


def _own_index(levels: Iterator[_Level], shape: Shape) -> list[tuple[int, int]] | None:
    """Return the start and the length of the block along each axis of the array, or None."""
    index = []
    for size in shape:
        start, count, length = 0, 1, 1
        while length < size:
            level = next(levels)
            if size % (length * level.size) or not (count == 1 or level.is_full):
                return None
            start, count = start * level.size + level.start, count * level.count
            length *= level.size
        index.append((start, count))
    return index


def _parts(level: _Level) -> Iterator[_Level]:
    """Split a slice into the number of a part and a whole part, where it is one of equal parts."""
    if level.is_full or level.count == 1 or level.size % level.count or level.start % level.count:
        yield level
    else:
        yield _Level(level.size // level.count, level.start // level.count, 1)
        yield _Level(level.count, 0, level.count)


def _indexed(
    name: str, reshape: Shape | None, shape: Shape, index: Sequence[tuple[int, int]]
) -> tuple[Block, Shape]:
    items: list[Item] = []
    for (start, count), size in zip(index, shape, strict=True):
        if count == size:
            items.append(slice(None))
        else:
            items.append(start if count == 1 else slice(start, start + count))
    kept = tuple(
        count for (_, count), item in zip(index, items, strict=True) if not isinstance(item, int)
    )
    while items and items[-1] == slice(None):
        items.pop()
    return Block(name, reshape, tuple(items)), kept
