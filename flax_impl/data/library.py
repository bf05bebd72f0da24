"""Any data set of TFDS, as a table of columns.

Runs as a short process of its own (see `pipeline/data/sources/library/column_subprocess.py`). The twin
`lightning_impl/data/library.py` reads those of torchvision. A prepared folder is read without TensorFlow;
most builders need TensorFlow to prepare one.

Source: https://www.tensorflow.org/datasets/data_source
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pipeline.config.checks.suggestions import nearest
from pipeline.config.column_datasets import LibraryConfig
from pipeline.data.sources.columns.column import Column, Kind, Lists
from pipeline.data.sources.decode_subprocess import one_line
from pipeline.data.sources.library.column_subprocess import read_sample, serve_columns
from pipeline.errors import UserError

ROWS = 256  # read at once


class LibraryTable:
    """A data set as a `ColumnTable`: the columns are its top-level features."""

    def __init__(self, name: str, info: Any, sets: Mapping[str, Any]) -> None:
        self.name, self.sets = name, sets
        self.counts = {split: len(samples) for split, samples in sets.items()}
        self.columns = {key: column_of(feature) for key, feature in info.features.items()}
        keys = info.supervised_keys or ()
        self.targets = tuple(key for key in keys[1:] if key in self.columns)

    def batches(self, split: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a split; see `ColumnTable`."""
        samples = self.sets[split]
        for start in range(0, len(samples), ROWS):
            rows = range(start, min(start + ROWS, len(samples)))
            read = [read_sample(samples, row, self.name) for row in rows]
            yield {name: self.cells(name, [row[name] for row in read]) for name in names}

    def cells(self, name: str, values: list[Any]) -> Any:
        """Return the cells of a column as those of its kind are."""
        column = self.columns[name]
        if column.kind is Kind.image:
            return values
        if column.kind is Kind.text:
            return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
        if column.kind is Kind.sequence:
            lists = [np.asarray(value, np.int64) for value in values]
            return Lists(np.concatenate(lists), np.array([len(one) for one in lists]))
        return np.stack([np.asarray(value) for value in values])


def open_table(config: LibraryConfig, root: Path) -> LibraryTable:
    """Open all splits of a data set, which is downloaded and prepared first if asked."""
    name, _, version = config.name.partition(":")
    if config.download and _folder_of(name, version, root) is None:
        _prepare(config, root)
    folder = _folder_of(name, version, root)
    if folder is None:
        raise not_there(config, name, root)
    try:
        builder = tfds.builder_from_directory(str(folder))
        sets = {split: builder.as_data_source(split=split) for split in builder.info.splits}
    except Exception as error:  # a broken file raises many kinds
        problem = f"the files in {folder} are damaged, or not in the array_record format: {one_line(error)}"
        raise UserError("dataset.root", root, problem=problem) from error
    return LibraryTable(config.name, builder.info, sets)


def _known() -> list[str]:
    return tfds.list_builders(with_community_datasets=False)


def _folder_of(name: str, version: str, root: Path) -> Path | None:
    """Return the folder of a prepared version of a data set, the newest if none is asked for, or None."""
    files = (root / name).glob(f"{version or '*'}/dataset_info.json")
    folders = [file.parent for file in files if tfds.core.Version.is_valid(file.parent.name)]
    return max(folders, key=lambda folder: tfds.core.Version(folder.name), default=None)


def _prepare(config: LibraryConfig, root: Path) -> None:
    """Download a data set and prepare it below `root`."""
    try:
        builder = tfds.builder(
            config.name, data_dir=root, file_format="array_record", **config.options
        )
        builder.download_and_prepare(download_dir=root / "downloads")
    except tfds.core.DatasetNotFoundError as error:
        raise unknown(config, _known()) from error
    except Exception as error:  # a network or a broken archive raises many kinds
        problem = f"preparing {config.name} failed: {one_line(error)}"
        there = root / config.name / "VERSION"
        hint = f"Put the folder that TFDS prepared elsewhere as array_record at {there}."
        missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
        if missing is None and "tensorflow" in str(error).lower():
            missing = "tensorflow"
        if missing is not None:
            hint = f"TFDS prepares it with {missing}: pip install {missing}. Or: {hint}"
        raise UserError("dataset.download", "true", problem=problem, hint=hint) from error


def not_there(config: LibraryConfig, name: str, root: Path) -> UserError:
    """Make the error for a data set that is not prepared, or that TFDS does not know."""
    if name.partition("/")[0] not in (known := _known()):
        return unknown(config, known)
    others = sorted(file.parent.parent for file in (root / name).glob("*/*/dataset_info.json"))
    problem = f"{root / name} lacks VERSION/dataset_info.json"
    hint = "Type dataset.download=true to prepare it."
    if others:
        hint = f"Set dataset.name={name}/{others[0].name}, a configuration that is there."
    return UserError("dataset.root", root, problem=problem, hint=hint)


def unknown(config: LibraryConfig, known: Sequence[str]) -> UserError:
    """Make the error for a name that TFDS does not know."""
    close = nearest(config.name.lower(), known)
    problem = "TFDS has no such builder, and dataset.root no such folder"
    return UserError(
        "dataset.name", config.name, problem=problem, hint=f"Did you mean {close}?" if close else ""
    )


def column_of(feature: Any) -> Column:
    """Return a column with its kind, from its feature."""
    kind = type(feature)
    if kind is tfds.features.ClassLabel:
        return Column(Kind.classes, "classes", classes=tuple(feature.names or ()))
    if kind is tfds.features.Text:
        return Column(Kind.text, "texts")
    if kind is tfds.features.Sequence and type(feature.feature) is tfds.features.ClassLabel:
        return Column(Kind.sequence, "lists of classes", classes=tuple(feature.feature.names or ()))
    tensor = feature.feature if kind is tfds.features.Sequence else feature
    if not isinstance(tensor, tfds.features.Tensor | tfds.features.Image):
        return Column(Kind.other, f"values of the type {kind.__name__}")
    dtype, shape = np.dtype(tensor.np_dtype), tuple(feature.shape)  # pyrefly: ignore[no-matching-overload]
    about = f"numbers {dtype}{list(shape)}"
    if isinstance(tensor, tfds.features.Image):
        is_picture = tensor is feature and dtype == np.uint8
        return Column(Kind.image, "images") if is_picture else Column(Kind.other, about)
    if dtype.kind in "biuf" and None not in shape:
        return Column(Kind.number, about, dtype, shape)
    is_list = dtype.kind in "iu" and len(shape) == 1
    return Column(Kind.sequence if is_list else Kind.other, about, dtype)


if __name__ == "__main__":
    serve_columns(open_table)
