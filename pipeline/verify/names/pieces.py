"""Canonical names and layouts of a model's arrays: by a names file, or one array at a time."""

from dataclasses import dataclass

import numpy as np

from pipeline.storage.portable_state import Arrays, Shapes
from pipeline.verify.names.names_file import NamesFile, Side
from pipeline.verify.names.notation import (
    Block,
    Flip,
    NotationError,
    Shape,
    Take,
    Transform,
    Transpose,
)
from pipeline.verify.names.rows import ParsedRow, RowError, parse_row, unknown_name

CANONICAL = "torch"  # kind of the model whose names and layouts are the canonical ones


@dataclass(frozen=True)
class Piece:
    """A block of a canonical array, and the block of a model's own array with the same values."""

    name: str  # of the canonical array
    shape: Shape  # of the whole canonical array
    kind: str  # of its layer; empty: unknown
    block: Block  # of the canonical array
    own: Block  # of the model's array
    to_canonical: Transform
    to_own: Transform

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """Return the values of the canonical block from the model's array."""
        return self.to_canonical.apply(self.own.read(array))

    def native(self, array: np.ndarray) -> np.ndarray:
        """Return the values of the model's own block from the canonical array."""
        return self.to_own.apply(self.block.read(array))


def pieces_of(names: NamesFile, own: Shapes) -> dict[str, tuple[Piece, ...]]:
    """Return the pieces of a model's arrays that a names file names, by the model's own names.

    `own` are the shapes of the model's arrays.

    Raises:
        UserError: a row does not fit the model, or the rows cover an array in part, or twice.
    """
    try:
        return _pieces_of(names, own)
    except RowError as error:
        raise names.refusal(error) from error


def canonical_arrays(names: NamesFile, arrays: Arrays) -> Arrays:
    """Return weights by canonical names and layouts, if they are by the names of the other side.

    Arrays without a row stay.

    Raises:
        UserError: they have names of the other side, but do not fit its rows.
    """
    own = {name: array.shape for name, array in arrays.items()}
    rows = _parsed(names, own)
    mine = _sides(rows)[not _is_left(names, rows, {}, canonical=True)]
    if all(block.name in own for block in mine):
        return arrays
    pieces = pieces_of(names, own)
    found = {name: array for name, array in arrays.items() if name not in pieces}
    for name, group in pieces.items():
        for piece in group:
            if piece.name not in found:
                found[piece.name] = np.zeros(piece.shape, arrays[name].dtype)
            piece.block.write(found[piece.name], piece.canonical(arrays[name]))
    return found


def check_names(names: NamesFile, own: Shapes) -> None:
    """Refuse a names file whose canonical names are not those of a model with these arrays."""
    rows = _parsed(names, own)
    is_left = _is_left(names, rows, own, canonical=True)
    side = names.left if is_left else names.right
    try:
        for number, row in enumerate(rows):
            block = row.left if is_left else row.right
            _check_own(number, block, own, is_left)
            shape, told = own[block.name], side.arrays.get(block.name)
            if told is not None and told != shape:
                problem = f"it is {[*shape]} in this model, {[*told]} in the file"
                raise RowError(number, block.name, problem, "Write the file anew for this model.")
    except RowError as error:
        raise names.refusal(error) from error


def _parsed(names: NamesFile, own: Shapes) -> list[ParsedRow]:
    rows = []
    for number, row in enumerate(names.rows):
        try:
            rows.append(parse_row(number, row, names.left.arrays or own, names.right.arrays or own))
        except RowError as error:
            raise names.refusal(error) from error
    return rows


def _is_left(names: NamesFile, rows: list[ParsedRow], own: Shapes, canonical: bool) -> bool:
    """Tell if the left side of a file is the model with these arrays.

    `canonical` is True for the model that gives the canonical names. Without the kinds of the two models
    it is the side of which more names are the model's; by itself, the left one is canonical.
    """
    left, right = (side.model.startswith(CANONICAL) for side in (names.left, names.right))
    if left != right:
        return left == canonical
    count = [sum(block.name in own for block in side) for side in _sides(rows)]
    return canonical if count[0] == count[1] else count[0] > count[1]


def _sides(rows: list[ParsedRow]) -> tuple[list[Block], list[Block]]:
    return [row.left for row in rows], [row.right for row in rows]


def _check_own(number: int, block: Block, own: Shapes, is_left: bool) -> Shape:
    """Return the shape of a block of a model's array; refuse one that the model does not have."""
    if block.name not in own:
        raise unknown_name(number, block.name, "left" if is_left else "right", own)
    return _shape_of(number, block, own[block.name])


def _shape_of(number: int, block: Block, shape: Shape) -> Shape:
    try:
        return block.read(np.broadcast_to(np.zeros((), bool), shape)).shape
    except (ValueError, IndexError) as error:
        raise RowError(number, str(block), f"{block.name} is {[*shape]}: {error}") from error


def _pieces_of(names: NamesFile, own: Shapes) -> dict[str, tuple[Piece, ...]]:
    rows = _parsed(names, own)
    is_left = _is_left(names, rows, own, canonical=False)
    other = names.right if is_left else names.left
    shapes = _canonical_shapes(rows, own, other, is_left)
    covers = Cover(), Cover()
    pieces: dict[str, tuple[Piece, ...]] = {}
    for number, row in enumerate(rows):
        mine, theirs = (row.left, row.right) if is_left else (row.right, row.left)
        before = (
            _check_own(number, mine, own, is_left),
            _shape_of(number, theirs, shapes[theirs.name]),
        )
        to_own, to_canonical = _both_ways(number, row.transform, before, is_left)
        covers[0].add(number, mine, own[mine.name])
        covers[1].add(number, theirs, shapes[theirs.name])
        kind = other.layers.get(theirs.name.rpartition(".")[0], "")
        piece = Piece(theirs.name, shapes[theirs.name], kind, theirs, mine, to_canonical, to_own)
        pieces[mine.name] = (*pieces.get(mine.name, ()), piece)
    for cover in covers:
        cover.check_whole()
    return pieces


def _both_ways(
    number: int, transform: Transform, shapes: tuple[Shape, Shape], is_left: bool
) -> tuple[Transform, Transform]:
    """Return the transforms to the model's own block and to the canonical one, whose shapes are given."""
    mine, theirs = shapes
    start, end = (mine, theirs) if is_left else (theirs, mine)
    try:
        after = transform.shape_after(start)
        back = transform.inverse(start)
    except (NotationError, ValueError) as error:
        raise RowError(number, str(transform), str(error)) from error
    if after != end:
        problem = f"the left one becomes {[*after]}, the right one is {[*end]}"
        hint = "Set `transform` to the steps from the left one to the right one."
        raise RowError(number, str(transform) or "the two", problem, hint)
    return (back, transform) if is_left else (transform, back)


def _canonical_shapes(rows: list[ParsedRow], own: Shapes, other: Side, is_left: bool) -> Shapes:
    """Return the shapes of the canonical arrays: from the file, or else from a row that gives it."""
    shapes = dict(other.arrays)
    for number, row in enumerate(rows):
        mine, theirs = (row.left, row.right) if is_left else (row.right, row.left)
        if theirs.name in shapes:
            continue
        before = _check_own(number, mine, own, is_left)
        keeps_axes = all(isinstance(s, Transpose | Flip | Take) for s in row.transform.steps)
        if not (theirs.is_whole and (keeps_axes or is_left)):
            side = "right" if is_left else "left"
            hint = f"Add `{theirs.name}: [sizes]` to `arrays:` below `{side}:`."
            raise RowError(number, theirs.name, "the file does not say its whole shape", hint)
        shapes[theirs.name] = (
            row.transform.shape_after(before) if is_left else _shape_before(row.transform, before)
        )
    return shapes


def _shape_before(transform: Transform, after: Shape) -> Shape:
    """Return the shape that a transform which keeps the axes has made to `after`."""
    shape = np.array(after, int)
    for step in reversed(transform.steps):
        if isinstance(step, Transpose) and sorted(step.axes) == list(range(len(shape))):
            shape = shape[np.argsort(step.axes)]
    return tuple(shape.tolist())


class Cover:
    """The elements of arrays that rows have named so far."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}  # numbers of rows by element, from 1; 0: none

    def add(self, number: int, block: Block, shape: Shape) -> None:
        """Add the block of a row; refuse elements that another row has."""
        seen = self.rows.setdefault(block.name, np.zeros(shape, np.int32))
        if (earlier := block.read(seen)).any():
            problem = f"some of its elements are in row {earlier.max()}, too"
            hint = (
                "Leave out one of the two rows. Arrays that are tied in one model must be tied in "
                "the other."
            )
            raise RowError(number, str(block), problem, hint)
        block.write(seen, np.full(earlier.shape, number + 1))

    def check_whole(self) -> None:
        """Refuse an array that rows name in part."""
        for name, seen in self.rows.items():
            if not seen.all():
                problem = f"its rows name {np.count_nonzero(seen)} of its {seen.size} elements"
                raise RowError(int(seen.max()) - 1, name, problem, "Add a row for the others.")
