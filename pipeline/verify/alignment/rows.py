"""Rows of an alignment: which block of the left model is which block of the right one, in text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from pipeline.verify.alignment.blocks import find_block
from pipeline.verify.alignment.grids import first_step
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.notation import (
    Block,
    NotationError,
    Reshape,
    Shape,
    Take,
    Transform,
    parse_block,
    parse_transform,
)
from pipeline.verify.alignment.transforms import find_transform
from pipeline.verify.trace.graph import Array

MOST_PIECES = 16  # rows for two arrays, before elements are listed one by one
FEW_PIECES = 4  # rows for two arrays that are easier to read than one with an explicit order


@dataclass(frozen=True)
class Row:
    """A block of a left array, and the block of a right array that has the same values.

    `transform` are the steps from the left block to the right one; see `notation`.
    """

    left: str
    right: str
    transform: str = ""


class RowError(ValueError):
    """A row that cannot be applied: its number, what is wrong as a clause, and the way out."""

    def __init__(self, row: int, text: str, problem: str, hint: str = "") -> None:
        self.row, self.text, self.problem, self.hint = row, text, problem, hint
        super().__init__(f"row {row + 1}: {text}: {problem}. {hint}".rstrip())


@dataclass(frozen=True)
class ParsedRow:
    """A row whose text has been read."""

    left: Block
    right: Block
    transform: Transform

    @property
    def lists_entries(self) -> bool:
        """True if an order is given entry by entry."""
        return any(isinstance(step, Take) for step in self.transform.steps)


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


def apply_rows(rows: Sequence[Row], left: tuple[Array, ...], right: tuple[Array, ...]) -> Mapping:
    """Return the mapping that rows describe; the inverse of `find_rows`.

    Raises:
        RowError: a row that cannot be read, names no array, does not fit, or maps an element twice.
    """
    mapping = Mapping(left, right)
    for number, row in enumerate(rows):
        _, ours = _elements(number, "left", row.left, mapping.left)
        block, theirs = _elements(number, "right", row.right, mapping.right)
        try:
            transformed = parse_transform(row.transform).apply(ours)
        except ValueError as error:  # also a NotationError
            problem = f"it does not fit {row.left}, whose shape is {list(ours.shape)}: {error}"
            raise RowError(number, row.transform, problem) from error
        if transformed.shape != theirs.shape:
            problem = (
                f"{row.left} {'becomes' if row.transform else 'is'} {list(transformed.shape)}, "
                f"{row.right} is {list(theirs.shape)}"
            )
            hint = "Set `transform` to the steps from the left block to the right one."
            raise RowError(number, row.transform or row.left, problem, hint)
        is_listed = any(isinstance(item, tuple) for item in block.index or ())
        is_repeated = is_listed and len(np.unique(theirs)) < theirs.size
        if is_repeated or (mapping.source[theirs] >= 0).any():
            other = next((n for n in range(number) if _overlaps(rows[n], mapping, theirs)), number)
            problem = (
                f"some of its elements have a left one already, by the row for {rows[other].left}"
            )
            raise RowError(number, row.right, problem, "Leave out one of the two rows.")
        mapping.source[theirs] = transformed
    return mapping


def parse_row(
    number: int, row: Row, left: Iterable[str] = (), right: Iterable[str] = ()
) -> ParsedRow:
    """Read the text of a row; the names of the arrays of a side are given if they are known."""
    text = row.left
    try:
        ours = parse_block(text, [*left])
        text = row.right
        theirs = parse_block(text, [*right])
        text = row.transform
        return ParsedRow(ours, theirs, parse_transform(text))
    except NotationError as error:
        raise RowError(number, text, str(error)) from error


def _elements(number: int, side: str, text: str, owners: Owners) -> tuple[Block, np.ndarray]:
    """Return a block, and the numbers of the elements in it."""
    names = [array.name for array in owners.arrays]
    try:
        block = parse_block(text, names)
    except NotationError as error:
        raise RowError(number, text, str(error)) from error
    if block.name not in names:
        raise unknown_name(number, block.name, side, names)
    index = names.index(block.name)
    try:
        return block, block.read(owners.elements(index))
    except (ValueError, IndexError) as error:
        problem = f"{block.name} is {list(owners.arrays[index].shape)}: {error}"
        raise RowError(number, text, problem) from error


def unknown_name(number: int, name: str, side: str, names: Iterable[str]) -> RowError:
    """Make the error for an array that a model does not have."""
    names = list(names)
    closest = get_close_matches(name, names, 3, 0.4) or names[:3]
    problem = f"the {side} model has no such array"
    return RowError(number, name, problem, f"Closest names: {', '.join(closest)}.")


def _overlaps(row: Row, mapping: Mapping, elements: np.ndarray) -> bool:
    return bool(np.isin(_elements(0, "right", row.right, mapping.right)[1], elements).any())
