"""Any data set of torchvision, as a table of columns.

Runs as a short process of its own (see `pipeline/data/sources/library/column_subprocess.py`). The twin
`flax_impl/data/library.py` reads those of TFDS.

Source: https://docs.pytorch.org/vision/stable/datasets.html
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torchvision import datasets
from torchvision.datasets import VisionDataset as Base

from pipeline.config.checks.suggestions import nearest
from pipeline.config.column_datasets import LibraryConfig
from pipeline.data.sources.columns.column import Column, Kind
from pipeline.data.sources.decode_subprocess import one_line
from pipeline.data.sources.library.column_subprocess import read_sample, serve_columns
from pipeline.errors import UserError

ROWS = 256  # read at once
SPLIT_ARGUMENTS = ("train", "split", "image_set")
SPLITS = ("train", "val", "valid", "test")  # values that are tried


class LibraryTable:
    """A data set as a `ColumnTable`: the columns are `image` and `target`, or places in a longer sample."""

    def __init__(self, name: str, sets: Mapping[str, Any]) -> None:
        self.name, self.sets, self.targets = name, sets, ()
        self.counts = {split: len(samples) for split, samples in sets.items()}
        first = next((samples for samples in sets.values() if len(samples)), None)
        sample = _as_tuple(read_sample(first, 0, self.name)) if first is not None else ()
        names = [f"column_{place}" for place in range(len(sample))]
        if len(sample) <= 2:
            names = ["image", "target"][: len(sample)]
            self.targets = tuple(names[1:])
        self.places = {name: place for place, name in enumerate(names)}
        self.columns = {
            name: column_of(value, first) for name, value in zip(names, sample, strict=True)
        }
        for split, samples in sets.items():
            if _classes_of(samples) != _classes_of(first):
                problem = f"{split} of {name} has other classes than {next(iter(sets))}"
                shown = ", ".join(_classes_of(samples)[:5])
                hint = f"Its first are {shown}. A class may lack its folder."
                raise UserError("dataset.name", name, problem=problem, hint=hint)

    def batches(self, split: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a split; see `ColumnTable`."""
        samples = self.sets[split]
        for start in range(0, len(samples), ROWS):
            rows = range(start, min(start + ROWS, len(samples)))
            read = [_as_tuple(read_sample(samples, row, self.name)) for row in rows]
            yield {
                name: self.cells(name, [row[self.places[name]] for row in read], start)
                for name in names
            }

    def cells(self, name: str, values: list[Any], row: int) -> Any:
        """Return the cells of a column as those of its kind are."""
        column = self.columns[name]
        if column.kind in (Kind.image, Kind.text):
            return values
        try:
            cells = np.stack([np.asarray(value) for value in values])
            return cells.astype(
                np.int64 if column.kind is Kind.classes else column.dtype, casting="same_kind"
            )
        except (TypeError, ValueError) as error:
            problem = f"from row {row} on not all are {column.about}: {one_line(error)}"
            raise UserError("dataset.columns", name, problem=problem) from error


def open_table(config: LibraryConfig, root: Path) -> LibraryTable:
    """Open all splits of a data set, which are downloaded first if asked."""
    classes = {name: getattr(datasets, name) for name in datasets.__all__}
    known = [name for name, kind in classes.items() if inspect.isclass(kind) and kind is not Base]
    if config.name not in known:
        raise unknown(config, known)
    kind = classes[config.name]
    arguments = _arguments_of(kind)
    given = dict(config.options)
    given |= {"root": str(root)} if "root" in arguments else {}
    given |= {"download": config.download} if "download" in arguments else {}
    by = next((name for name in SPLIT_ARGUMENTS if name in arguments and name not in given), None)
    sets: dict[str, Any] = {}
    if by is None:
        sets["train"] = _opened(kind, given, config, root)
    elif by == "train":
        for split in ("train", "test"):
            sets[split] = _opened(kind, given | {"train": split == "train"}, config, root)
    else:
        others = ""
        for split in config.splits.values() or SPLITS:
            try:
                sets[split] = _opened(kind, given | {by: split}, config, root)
            except _UnknownSplit as error:
                others = str(error)
        if not sets:
            problem = f"it has other splits: {others}"
            hint = "Set dataset.splits={train:NAME}."
            raise UserError("dataset.splits", dict(config.splits), problem=problem, hint=hint)
    return LibraryTable(config.name, sets)


class _UnknownSplit(Exception):
    """A class has no split of this name."""


def _opened(kind: type, given: Mapping[str, Any], config: LibraryConfig, root: Path) -> Any:
    """Make a data set; raise an `_UnknownSplit`, or a `UserError` if it is not there."""
    try:
        return kind(**given)
    except ImportError as error:
        missing = error.name or "a package"
        problem = f"torchvision reads {config.name} with {missing}, which is not installed"
        raise UserError(
            "dataset.name", config.name, problem=problem, hint=f"pip install {missing}"
        ) from error
    except TypeError as error:
        hint = "Set dataset.options={NAME: VALUE}, the arguments of the class."
        problem = f"torchvision.datasets.{config.name}: {one_line(error)}"
        raise UserError("dataset.options", config.options, problem=problem, hint=hint) from error
    except Exception as error:  # missing or broken files, or no network, raise many kinds
        if isinstance(error, ValueError) and "for argument" in str(error):
            raise _UnknownSplit(one_line(error)) from error
        raise not_there(config, root, error, "download" in _arguments_of(kind)) from error


def not_there(config: LibraryConfig, root: Path, error: Exception, has_download: bool) -> UserError:
    """Make the error for files that are missing or damaged, or that cannot be downloaded."""
    if config.download and has_download:
        problem = f"downloading {config.name} failed: {one_line(error)}"
        hint = f"Check the network, or put its files below {root} by hand."
        return UserError("dataset.download", "true", problem=problem, hint=hint)
    text = one_line(error).replace(" You can use download=True to download it", "")
    hint = "Put its files there by hand."
    if has_download:
        hint = "Type dataset.download=true to fetch it."
    if "pip install" in text:
        hint = ""
    problem = f"{config.name} is not there, or damaged: {text.rstrip('.')}"
    return UserError("dataset.root", root, problem=problem, hint=hint)


def unknown(config: LibraryConfig, known: Sequence[str]) -> UserError:
    """Make the error for a name that torchvision does not know."""
    close = nearest(config.name, known) or nearest(config.name.upper(), known)
    problem = "torchvision.datasets has no such class"
    hint = f"Did you mean {close}?" if close else f"It has {', '.join(known)}."
    return UserError("dataset.name", config.name, problem=problem, hint=hint)


def _arguments_of(kind: type) -> set[str]:
    """Return the names of the arguments of a class, with those that it passes on."""
    found: set[str] = set()
    for base in kind.__mro__:
        arguments = inspect.signature(base.__init__).parameters.values()
        found |= {argument.name for argument in arguments}
        if not any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
            break
    return found - {"self"}


def _as_tuple(sample: Any) -> tuple:
    """Return the parts of a sample."""
    return tuple(sample) if isinstance(sample, tuple | list) else (sample,)


def column_of(value: Any, samples: Any) -> Column:
    """Return a column with its kind, from its value in the first sample."""
    if isinstance(value, Image):
        return Column(Kind.image, "images")
    if isinstance(value, str):
        return Column(Kind.text, "texts")
    if isinstance(value, bool | int | np.integer) or (
        torch.is_tensor(value) and _is_integer(value)
    ):
        return Column(Kind.classes, "classes", classes=_classes_of(samples))
    if isinstance(value, float | np.number | np.ndarray) or torch.is_tensor(value):
        array = np.asarray(value)
        is_picture = array.dtype == np.uint8 and array.ndim in (2, 3) and not torch.is_tensor(value)
        kind = Kind.image if is_picture else Kind.number
        return Column(kind, f"numbers {array.dtype}{list(array.shape)}", array.dtype, array.shape)
    return Column(Kind.other, f"values of the type {type(value).__name__}")


def _classes_of(samples: Any) -> tuple[str, ...]:
    """Return the names of the classes of a data set, as far as it knows them."""
    names = getattr(samples, "classes", None) or getattr(samples, "categories", None) or ()
    return tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in names)


def _is_integer(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is one whole number."""
    return tensor.ndim == 0 and not tensor.is_floating_point()


if __name__ == "__main__":
    serve_columns(open_table)
