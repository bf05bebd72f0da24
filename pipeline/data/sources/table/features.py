"""Features of a table's rows: numbers without gaps, then categories as 0 and 1."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.own_datasets import Missing, TableConfig
from pipeline.data.dataset import Moments
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.table.files import KEY
from pipeline.errors import UserError

PART = 2**16  # rows that are made at once


@dataclass(frozen=True, eq=False)
class Decoded:
    """The arrays of `decode` that features are made of, with the names of their columns."""

    numbers: np.ndarray
    codes: np.ndarray
    names: list[str]
    categories: Mapping[str, list[str]]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Arrays) -> "Decoded":
        """Take them from the array cache, which keeps none that is empty."""
        names, count = json.loads(arrays["names"].tobytes()), len(arrays["splits"])
        return cls(
            arrays.get("numbers", np.zeros((count, 0))),
            arrays.get("codes", np.zeros((count, 0), np.int32)),
            names["numbers"],
            names["codes"],
            tuple(names["classes"]),
        )


def make_features(
    decoded: Decoded, training: np.ndarray, config: TableConfig, scratch: Path
) -> Arrays:
    """Make the features of all rows, with statistics of the rows `training`.

    Numbers come first, where they are missing the training mean; then with `dataset.missing=indicate` a 1
    for each column of them that has gaps, where it is missing; then a 1 for the category of each other column
    that is among the training rows.

    Returns:
        `features` float64 [n, width]; `mean` and `std` [width], 0 and 1 but for numbers; `unknown` [columns],
        how many cells have a category that no training row has.
    """
    numbers, codes, categories = decoded.numbers, decoded.codes, decoded.categories.values()
    mean, std = np.zeros(len(decoded.names)), np.ones(len(decoded.names))
    has_gaps = np.zeros(len(decoded.names), bool)
    for place, name in enumerate(decoded.names):
        column = np.asarray(numbers[:, place])
        has_gaps[place] = np.isnan(column).any()
        known = column[training]
        known = known[~np.isnan(known)]
        if not known.size:
            problem = f"{name} has no number in the rows of training"
            hint = f"Set dataset.drop=[{name}]."
            raise UserError(KEY, config.path, problem=problem, hint=hint)
        mean[place], deviation = known.mean(), known.std()
        std[place] = deviation if deviation > 0 else 1.0
    gaps = np.flatnonzero(has_gaps) if config.missing is Missing.indicate else np.zeros(0, int)
    places = []  # of each category among the features of its column; the last is for those of none
    for column, known in enumerate(categories):
        found = np.unique(codes[training, column])
        table = np.full(len(known) + 1, -1)
        table[found[found >= 0]] = np.arange(np.count_nonzero(found >= 0))
        places.append(table)
    widths = [int(table.max()) + 1 for table in places]
    width = len(mean) + len(gaps) + sum(widths)
    if width == 0:
        problem = "the columns for the model hold nothing in the rows of training"
        raise UserError(KEY, config.path, problem=problem)
    shape = (len(numbers), width)
    features = np.lib.format.open_memmap(scratch / "features.npy", "w+", np.float64, shape)
    unknown = np.zeros(len(places), np.int64)
    for rows in parts(len(numbers)):
        part, missing = features[rows], np.isnan(numbers[rows])
        part[:, : len(mean)] = np.where(missing, mean, numbers[rows])
        part[:, len(mean) : len(mean) + len(gaps)] = missing[:, gaps]
        first = len(mean) + len(gaps)
        for column, table in enumerate(places):
            found = table[codes[rows, column]]
            one = np.flatnonzero(found >= 0)
            part[one, first + found[one]] = 1
            unknown[column] += np.count_nonzero((found < 0) & (codes[rows, column] >= 0))
            first += widths[column]
    flags = width - len(mean)
    mean, std = np.append(mean, np.zeros(flags)), np.append(std, np.ones(flags))
    made = {"features": features, "mean": mean, "std": std}
    return made | ({"unknown": unknown} if len(unknown) else {})


def parts(count: int) -> Iterator[slice]:
    """Yield slices of so many rows."""
    for first in range(0, count, PART):
        yield slice(first, first + PART)


def moments_of(features: Arrays) -> Moments:
    """Return the mean and deviation of the features."""
    return Moments(np.array(features["mean"]), np.array(features["std"]))
