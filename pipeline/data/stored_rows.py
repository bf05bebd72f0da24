"""Rows of an array in a file that is too large for the memory, as a field of a split."""

from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from pipeline.data.sample_order import SampleOrder


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Some of the rows of a memory-mapped array; they are read batch by batch.

    It stands in a `Split` for the array `[n, …]` of these rows.

    Attributes:
        array: all rows.
        rows: which of them: int64 [n], or a part of a permutation that takes no memory.
    """

    array: np.ndarray
    rows: np.ndarray | SampleOrder

    nbytes = 0  # of memory: the rows stay on the disk
    threads = None  # how many read a batch: as many as cores

    @property
    def dtype(self) -> np.dtype:
        """Type of the array."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the array that it stands for."""
        return self.array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that it stands for."""
        return (len(self.rows), *self.array.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All the rows, in memory."""
        return np.asarray(self.array[np.asarray(self.rows)], dtype)

    @overload
    def __getitem__(self, part: slice) -> "StoredRows": ...
    @overload
    def __getitem__(self, part: np.ndarray) -> np.ndarray: ...
    def __getitem__(self, part: slice | np.ndarray) -> "StoredRows | np.ndarray":
        """A contiguous part, as a view; or the samples at some indices."""
        if isinstance(part, slice):
            return replace(self, rows=self.rows[part])
        return self.take(part)

    def select(self, indices: np.ndarray) -> "StoredRows":
        """Return the samples at some indices, in that order, as a view."""
        return replace(self, rows=self.rows[indices])

    def max(self) -> int | float:
        """Return the largest value."""
        parts = range(0, len(self), 1024)
        return max(np.asarray(self[start : start + 1024]).max().item() for start in parts)

    def take(self, indices: np.ndarray, words: np.ndarray | None = None) -> np.ndarray:
        """Return the samples at some indices; `words` are for images that are cropped here, and unused."""
        return np.take(np.asarray(self.array), self.rows[indices], axis=0)

    def fill(self, pixels: np.ndarray, indices: np.ndarray, words: np.ndarray | None) -> None:
        """Write the samples at some indices into an array; see `take`."""
        # Other modes than clip need a copy of what they write.
        np.take(self.array, self.rows[indices], axis=0, out=pixels, mode="clip")
