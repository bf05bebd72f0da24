"""Rows of an alignment: which block of the left model is which block of the right one, in text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.names.notation import Block, NotationError, Take, Transform
from pipeline.verify.names.parsing import parse_block, parse_transform
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
