"""Columns of a data set that a library has read, and their rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np

INTEGERS = np.dtype(np.int64)


class Kind(Enum):
    """Kind of a column, with what a batch of it is."""

    number = "numbers"  # array [rows, *shape]
    classes = "classes"  # integers [rows]
    image = "images"  # list of pictures of Pillow, arrays [height, width, …], or encoded files
    sequence = "lists of integers"  # `Lists`
    text = "texts"  # list of str
    other = "other values"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        kind: kind of its cells.
        about: their type in the words of the library, for messages.
        dtype: type of numbers.
        shape: shape of the numbers of a row.
        classes: names of the classes, also of those in lists.
    """

    kind: Kind
    about: str
    dtype: np.dtype = INTEGERS
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def is_float(self) -> bool:
        """True for numbers with a fraction."""
        return self.kind is Kind.number and self.dtype.kind == "f"

    @property
    def is_truth(self) -> bool:
        """True for truth values, one in a row, and for two classes."""
        is_bool = self.kind is Kind.number and self.dtype.kind == "b" and not self.shape
        return is_bool or (self.kind is Kind.classes and len(self.classes) == 2)


@dataclass(frozen=True)
class Lists:
    """Lists of integers: the elements of all, one list after the other, and the lengths [rows]."""

    values: np.ndarray
    lengths: np.ndarray


class ColumnTable(Protocol):
    """A data set as a library reads it.

    Attributes:
        columns: its columns by name, the same in all splits.
        counts: number of rows of each split, by the library's names of them.
        targets: columns to predict, if the user names none.
    """

    @property
    def columns(self) -> Mapping[str, Column]: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def targets(self) -> Sequence[str]: ...

    def batches(self, split: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a split in their order, some at once, with these columns."""
        ...
