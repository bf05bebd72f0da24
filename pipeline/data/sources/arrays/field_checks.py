"""Checks of named arrays: names, types, shapes, lengths and values, read in parts."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from pipeline.data.sources.arrays.scans import scanned
from pipeline.errors import UserError

Fields = Mapping[str, np.ndarray]  # arrays by name, `[n, …]` each

LARGEST = 2**31 - 1  # integer that JAX holds without 64-bit types
PART = 2**22  # values read at once


def check_fields(splits: Mapping[str, Fields], about: str, has_next: bool) -> None:
    """Refuse arrays that cannot be fields of one data set.

    `about` is the key with its value; `has_next` tells whether the next tokens are made of tokens alone.
    """
    train = splits["train"]
    for split, fields in splits.items():
        for name, array in fields.items():
            if problem := problem_of_type(array):
                raise refused(about, f"{name} of {split} {problem}")
        lengths = {name: len(array) for name, array in fields.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
            raise refused(
                about, f"the fields of {split} have different numbers of samples: {counts}"
            )
        if 0 in lengths.values():
            raise refused(about, f"{split} has no samples")
        if fields.keys() != train.keys():
            missing = next(iter(train.keys() ^ fields.keys()))
            lacking, other = (split, "train") if missing in train else ("train", split)
            raise refused(about, f"{lacking} has no field {missing}, {other} has")
        for name, array in fields.items():
            if array.shape[1:] != train[name].shape[1:] or array.dtype != train[name].dtype:
                one, two = described(train[name]), described(array)
                raise refused(about, f"samples of {name} are {one} in train and {two} in {split}")
    alone = has_next and set(train) == {"tokens"}
    if alone and (train["tokens"].ndim != 2 or train["tokens"].shape[1] < 2):
        problem = (
            f"tokens are {described(train['tokens'])} a sample; the next token needs 2 or more"
        )
        raise refused(about, problem)


def problem_of_type(array: np.ndarray) -> str | None:
    """Return why an array cannot be a field; None if it can."""
    if array.dtype.kind not in "biuf":
        hints = {"O": "Python objects", "U": "texts", "S": "texts", "c": "complex numbers"}
        return f"has the type {array.dtype}: {hints.get(array.dtype.kind, 'no numbers')}"
    if not array.dtype.isnative:
        return f"has the byte order of another machine ({array.dtype.str}): use astype to change it"
    if array.dtype.itemsize > 8:
        return f"has the type {array.dtype}, which no framework takes"
    if array.ndim == 0:
        return "is one number, without an axis of samples"
    return None


def described(array: np.ndarray) -> str:
    """Describe the samples of an array."""
    return f"{array.dtype}{list(array.shape[1:])}"


def refused(about: str, problem: str, hint: str = "") -> UserError:
    """Make the error for arrays that cannot be used."""
    key, _, value = about.partition("=")
    return UserError(key, value, problem=problem, hint=hint)


def check_finite(fields: Fields, split: str, about: str, root: str) -> None:
    """Refuse NaN and infinity, with the first row that has one; `root` is that of the array cache."""
    for name, array in fields.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        row, value = scanned(array, f"finite {split}/{name}", root, first_infinite).tolist()
        if row >= 0:
            hint = "Mend the data, or set dataset.allow_nan=true."
            raise refused(about, f"{name} of {split} has {value} in row {row:.0f}", hint)


def parts(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row of each part of an array, and the part."""
    rows = max(1, PART // max(1, array[:1].size))
    for first in range(0, len(array), rows):
        yield first, array[first : first + rows]


def first_infinite(array: np.ndarray) -> np.ndarray:
    """Return the first row with NaN or infinity, and this value; -1 and 0 without one."""
    return np.array(first_row(array, lambda part: ~np.isfinite(part)), np.float64)


def limits_of(
    array: np.ndarray, name: str, root: str, ignored: int | None = None
) -> tuple[int, int]:
    """Return the `limits` of a field of this name; `root` is that of the array cache."""
    found = scanned(array, f"limits {name} {ignored}", root, lambda a: np.array(limits(a, ignored)))
    low, high = found.tolist()
    return low, high


def limits(array: np.ndarray, ignored: int | None = None) -> tuple[int, int]:
    """Return the lowest and highest integer in an array but `ignored`; 0 and -1 if there are no others."""
    found = []
    for _, part in parts(array):
        kept = part if ignored is None else part[part != ignored]
        found += [int(kept.min()), int(kept.max())] if kept.size else []
    return min(found, default=0), max(found, default=-1)


def first_row(
    array: np.ndarray, test: Callable[[np.ndarray], np.ndarray]
) -> tuple[int, int | float]:
    """Return the first row with a value for which `test` is true, and the value; -1 and 0 without one."""
    for first, part in parts(array):
        found = test(part)
        if found.any():
            row = int(np.flatnonzero(found.reshape(len(part), -1).any(axis=1))[0])
            return first + row, part[row][found[row]].ravel()[0].item()
    return -1, 0
