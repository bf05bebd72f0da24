"""The columns of a data set of `datasets`, read from Arrow in parts."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pipeline.data.sources.columns.column import Column, Kind, Lists
from pipeline.data.sources.huggingface.opening import KEY
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

ROWS = 256  # read at once


class ArrowTable:
    """The splits of a data set as a `ColumnTable`."""

    def __init__(self, splits: "Mapping[str, Dataset]") -> None:
        self.splits = {name: split.with_format("arrow") for name, split in splits.items()}
        first = next(iter(self.splits.values()))
        self.columns = {name: column_of(name, first) for name in first.column_names}
        self.counts = {name: len(split) for name, split in self.splits.items()}
        labels = [n for n, c in self.columns.items() if c.kind is Kind.classes]
        self.targets = labels if len(labels) == 1 else []

    def batches(self, split: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a split; see `ColumnTable`."""
        from pyarrow import ArrowInvalid

        for name in names:
            self.check(name, split)
        row = 0
        selected = cast("Dataset", self.splits[split].select_columns(list(names)))
        parts = cast("Iterator[pyarrow.Table]", selected.iter(ROWS))
        try:
            for part in parts:
                yield {name: self.cells(part.column(name), name, split, row) for name in names}
                row += part.num_rows
        except (ArrowInvalid, OSError) as error:
            problem = f"the files of {split} cannot be read: {error}"
            raise UserError(KEY, split, problem=problem) from error

    def check(self, name: str, split: str) -> None:
        """Refuse a column that another split lacks, or holds with another type or other classes."""
        other, column = self.splits[split], self.columns[name]
        if name not in other.column_names:
            problem = f"the split {split} has no such column, only {', '.join(other.column_names)}"
            raise UserError("dataset.columns", name, problem=problem)
        if (found := column_of(name, other)) != column:
            one, two = (f"{c.about} {', '.join(c.classes)}".strip() for c in (column, found))
            problem = f"it has {two} in {split}, and {one} in {next(iter(self.splits))}"
            raise UserError("dataset.columns", name, problem=problem)

    def cells(self, chunks: "pyarrow.ChunkedArray", name: str, split: str, row: int) -> Any:
        """Return the cells of a column as those of its kind are; refuse a missing one."""
        column, array = self.columns[name], chunks.combine_chunks()
        if array.null_count and not column.is_float:
            place = row + array.is_null().index(True).as_py()
            problem = f"it is missing in row {place} of {split}"
            raise UserError(
                "dataset.columns", name, problem=problem, hint="Mend or filter the data."
            )
        if column.kind is Kind.image:
            return [
                encoded(cell, name, row + place) for place, cell in enumerate(array.to_pylist())
            ]
        if column.kind is Kind.text:
            return array.to_pylist()
        if column.kind is Kind.sequence:
            values = array.flatten().to_numpy(zero_copy_only=False)
            return Lists(values, array.value_lengths().to_numpy(zero_copy_only=False))
        values = flattened(array).to_numpy(zero_copy_only=False)
        if len(values) != len(array) * prod(column.shape):
            problem = (
                f"rows {row} … of {split} have other numbers of values than {prod(column.shape)}"
            )
            raise UserError(
                "dataset.columns", name, problem=problem, hint="Give all rows one shape."
            )
        return values.reshape(len(array), *column.shape)


def column_of(name: str, split: "Dataset") -> Column:
    """Return a column with its kind, from its feature and the first row."""
    import datasets

    feature = split.features[name]
    about = str(feature)
    if isinstance(feature, datasets.ClassLabel):
        return Column(Kind.classes, "classes", classes=tuple(feature.names))
    if isinstance(feature, datasets.Image):
        return Column(Kind.image, "images")
    if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string"):
        return Column(Kind.text, "texts")
    inner, depth = feature, 0
    while not isinstance(inner, datasets.Value | datasets.ClassLabel) and hasattr(inner, "feature"):
        inner, depth = inner.feature, depth + 1
    kind = "int64" if isinstance(inner, datasets.ClassLabel) else getattr(inner, "dtype", "")
    try:
        dtype = np.dtype(kind)
    except TypeError:
        return Column(Kind.other, about)
    if dtype.kind not in "biuf":
        return Column(Kind.other, about)
    is_fixed = getattr(feature, "length", -1) != -1
    if depth == 1 and dtype.kind in "iu" and not is_fixed:
        names = tuple(inner.names) if isinstance(inner, datasets.ClassLabel) else ()
        return Column(Kind.sequence, "lists of integers", dtype, classes=names)
    shape = getattr(feature, "shape", None)
    if shape is None or None in shape:
        first = cast("pyarrow.Table", split[:1]).column(name).to_pylist()
        shape = np.shape(first[0]) if first else ()
    return Column(Kind.number, f"numbers {dtype}{list(shape)}", dtype, tuple(shape))


def flattened(array: "pyarrow.Array") -> "pyarrow.Array":
    """Return the numbers of an array of lists, however deep."""
    from pyarrow import ExtensionArray, types

    while True:
        if isinstance(array, ExtensionArray):
            array = array.storage
        kind = array.type
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return array
        array = array.flatten()


def encoded(cell: Mapping[str, Any], name: str, row: int) -> bytes | str:
    """Return the file of an image, or its path."""
    if (found := cell["bytes"] or cell["path"]) is None:
        raise UserError("dataset.columns", name, problem=f"its image in row {row} is missing")
    return found
