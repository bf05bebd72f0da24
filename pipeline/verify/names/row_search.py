"""Rows of a mapping, found from the order of its elements."""

from collections.abc import Iterator

import numpy as np

from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.names.blocks import find_block
from pipeline.verify.names.grids import first_step
from pipeline.verify.names.notation import Block, Reshape, Shape, Transform
from pipeline.verify.names.rows import ParsedRow, Row
from pipeline.verify.names.transforms import find_transform

MOST_PIECES = 16  # rows for two arrays, before elements are listed one by one
FEW_PIECES = 4  # rows for two arrays that are easier to read than one with an explicit order


def find_rows(mapping: Mapping) -> list[Row]:
    """Return the rows of a mapping, in the order of the left arrays."""
    rows: list[tuple[int, Row]] = []  # with the first left element that a row is about
    for index in range(len(mapping.right.arrays)):
        theirs = np.arange(mapping.right.starts[index], mapping.right.ends[index])
        sources = mapping.source[theirs]
        shape = mapping.right.arrays[index].shape
        for owner, places in _by_owner(mapping.left, sources):
            elements = sources[places] - mapping.left.starts[owner]
            ours, right = mapping.left.arrays[owner], mapping.right.arrays[index]
            found = _rows(ours.name, elements, ours.shape, right.name, places, shape)
            first = int(sources[places].min())
            rows += [(first, Row(str(r.left), str(r.right), str(r.transform))) for r in found]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _by_owner(owners: Owners, elements: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the arrays that elements are of, in the order of appearance, each with their places."""
    known = np.flatnonzero(elements >= 0)
    if not len(known):
        return
    ends = elements[known].min(), elements[known].max()
    first, last = np.searchsorted(owners.ends, ends, side="right")
    if first == last:
        yield int(first), known
        return
    found = np.searchsorted(owners.ends, elements[known], side="right")
    values, at = np.unique(found, return_index=True)
    for owner in values[np.argsort(at)]:
        yield int(owner), known[found == owner]


def _rows(
    left: str, elements: np.ndarray, left_shape: Shape, right: str, places: np.ndarray, shape: Shape
) -> list[ParsedRow]:
    """Return the rows that give a right array's `places`, ascending, the left array's `elements`."""
    arguments = left, left_shape, right, shape
    whole = _row(*arguments, elements, places)
    if whole and not whole.lists_entries:
        return [whole]
    for groups in _divisions(elements, places, right, shape):
        if 1 < len(groups) <= (FEW_PIECES if whole else MOST_PIECES):
            pieces = [_row(*arguments, elements[group], places[group]) for group in groups]
            if all(piece and not (whole and piece.lists_entries) for piece in pieces):
                return [piece for piece in pieces if piece]
    return [whole or _listed(*arguments, elements, places)]


def _divisions(
    elements: np.ndarray, places: np.ndarray, right: str, shape: Shape
) -> Iterator[list[np.ndarray]]:
    """Yield ways to divide the elements of two arrays into blocks, as the numbers of each block."""
    every = np.arange(len(places))
    yield np.split(every, _run_starts(elements, places)[1:])
    index = places // max(1, int(np.prod(shape[1:])))
    yield np.split(every, np.flatnonzero(np.diff(index)) + 1)
    found = find_block(right, places, shape)
    block = every.reshape(found[1]) if found else every
    for axis in range(1, block.ndim):
        numbers = np.moveaxis(block, axis, 0)
        first = elements[numbers.reshape(len(numbers), -1)[:, 0]]
        parts = np.split(numbers, _run_starts(first, np.arange(len(first)))[1:])
        yield [np.sort(part, axis=None) for part in parts]


def _row(
    left: str,
    left_shape: Shape,
    right: str,
    shape: Shape,
    elements: np.ndarray,
    places: np.ndarray,
) -> ParsedRow | None:
    """Return the one row for these elements, or None if there is none of blocks."""
    is_used = np.zeros(int(np.prod(left_shape)), bool)
    is_used[elements] = True
    is_whole = bool(is_used.all())
    ours = find_block(left, np.flatnonzero(is_used), left_shape)
    theirs = find_block(right, places, shape)
    if ours is None or theirs is None:
        return None
    order = elements if is_whole else (np.cumsum(is_used) - 1)[elements]
    transform = find_transform(order, ours[1], theirs[1])
    return None if transform is None else ParsedRow(ours[0], theirs[0], transform)


def _run_starts(elements: np.ndarray, places: np.ndarray) -> list[int]:
    """Return where the evenly spaced stretches of two sequences begin, between whole inner axes."""
    inner = 1
    while len(places) > 1:
        size = first_step(places, elements).size
        if size == 1:
            break
        places, elements, inner = places[::size], elements[::size], inner * size
    starts, at = [0], 0
    while at < len(places) and len(starts) <= MOST_PIECES:
        is_even = np.diff(places[at:], 2) == 0
        is_even &= np.diff(elements[at:], 2) == 0
        length = int(np.argmin(is_even)) + 2 if not is_even.all() else len(places) - at
        at += length
        starts.append(at)
    return [start * inner for start in starts if start < len(places)]


def _listed(
    left: str,
    left_shape: Shape,
    right: str,
    shape: Shape,
    elements: np.ndarray,
    places: np.ndarray,
) -> ParsedRow:
    """Return a row that lists the elements one by one."""
    found = find_block(right, places, shape)
    theirs, block = found or (_list(right, shape, places), places.shape)
    steps = () if block == places.shape else (Reshape(block),)
    return ParsedRow(_list(left, left_shape, elements), theirs, Transform(steps))


def _list(name: str, shape: Shape, elements: np.ndarray) -> Block:
    flat = None if len(shape) == 1 else (int(np.prod(shape)),)
    return Block(name, flat, (tuple(elements.tolist()),))


def unmatched(owners: Owners, is_matched: np.ndarray) -> list[tuple[str, Shape]]:
    """Return the blocks of a side's elements that are not matched, with their shapes."""
    found = []
    for index, array in enumerate(owners.arrays):
        free = np.flatnonzero(~is_matched[owners.starts[index] : owners.ends[index]])
        if not len(free):
            continue
        starts = _run_starts(free, free)
        pieces = np.split(free, starts[1:]) if len(starts) <= MOST_PIECES else [free]
        whole = find_block(array.name, free, array.shape)
        blocks = [whole] if whole else [find_block(array.name, p, array.shape) for p in pieces]
        for block, piece in zip(blocks, [free] if whole else pieces, strict=True):
            block = block or (_list(array.name, array.shape, piece), piece.shape)
            found.append((str(block[0]), block[1]))
    return found
