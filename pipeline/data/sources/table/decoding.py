"""Arrays made of a table: numbers, codes of categories, targets and splits."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.own_datasets import Missing, TableConfig
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.table.columns import (
    Column,
    as_texts,
    choose_columns,
    is_numeric,
    require_column,
    scan_columns,
)
from pipeline.data.sources.table.files import KEY, read_names, read_parts
from pipeline.data.sources.table.targets import check_targets, make_targets
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pyarrow

SPLIT_HINT = (
    f"Its cells must be {', '.join(SPLITS)}. Without such a column leave dataset.split out: "
    "dataset.val_fraction and dataset.test_fraction of the rows are held out."
)


def decode(files: Mapping[str, Path], config: TableConfig, scratch: Path) -> Arrays:
    """Read a table twice, first to tell numbers from categories.

    Args:
        files: the files of each split, train among them.
        config: columns, targets and treatment of what is missing.
        scratch: folder for the arrays that are returned, as mapped files.

    Returns:
        The rows of all files, in their order, as

        - `numbers`: float64 [n, columns], NaN where a cell is missing
        - `codes`: int32 [n, columns], places among the categories of a column, -1 where a cell is missing
        - `target`, `label` and `labels`, those of `make_targets`
        - `splits`: int8 [n], places in `SPLITS`
        - `names`: uint8, JSON with the names of `numbers`, the categories of `codes` and the `classes`

    Raises:
        UserError: a file cannot be read, or a column or cell is not as it must be; see `scan_columns`.
    """
    names = read_names(files["train"], config)
    wanted = choose_columns(names, config)
    columns, lengths = scan_columns(list(files.values()), [*wanted, *config.targets], config)
    check_targets([columns[name] for name in config.targets])
    kinds = {
        "numbers": [columns[name] for name in wanted if not columns[name].is_category],
        "codes": [columns[name] for name in wanted if columns[name].is_category],
        "target": [columns[name] for name in config.targets if not columns[name].is_category],
        "label": [columns[name] for name in config.targets if columns[name].is_category],
    }
    count = sum(lengths.values())
    types = {"numbers": np.float64, "codes": np.int32, "target": np.float64, "label": np.int64}
    arrays = {
        kind: new_array(scratch / f"{kind}.npy", (count, len(those)), types[kind])
        for kind, those in kinds.items()
    }
    arrays["splits"] = np.zeros(count, np.int8)
    row = 0
    for split, file in files.items():
        first = row
        arrays["splits"][first : first + lengths[file]] = SPLITS.index(split)
        split_column = [config.split] if config.split is not None else []
        for part in read_parts(file, [*columns, *split_column], config):
            rows = slice(row, row + part.num_rows)
            for kind, those in kinds.items():
                for place, column in enumerate(those):
                    cells = part.column(column.name)
                    values = values_of(cells, column, file)
                    check_cells(values, column, kind, file, row - first, config)
                    arrays[kind][rows, place] = values
            if config.split is not None:
                arrays["splits"][rows] = splits_of(
                    part.column(config.split), file, row - first, config
                )
            row += part.num_rows
    train = arrays["splits"] == 0
    if not train.any():
        raise UserError(
            "dataset.split", config.split, problem="no row of it is train", hint=SPLIT_HINT
        )
    values = {
        column.name: arrays[kind][:, place]
        for kind in ("target", "label")
        for place, column in enumerate(kinds[kind])
    }
    targets, classes = make_targets(
        values, [columns[name] for name in config.targets], train, config
    )
    described = {
        "numbers": [column.name for column in kinds["numbers"]],
        "codes": {column.name: column.categories for column in kinds["codes"]},
        "classes": classes,
    }
    kept = {name: arrays[name] for name in ("numbers", "codes", "splits") if arrays[name].size}
    return kept | targets | {"names": np.frombuffer(json.dumps(described).encode(), np.uint8)}


def new_array(file: Path, shape: tuple[int, int], dtype: type) -> np.ndarray:
    """Make an array in a file; an empty one in memory."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.lib.format.open_memmap(file, "w+", np.dtype(dtype), shape)


def values_of(cells: "pyarrow.Array", column: Column, file: Path) -> np.ndarray:
    """Return cells as numbers, or as codes of categories."""
    import pyarrow

    compute = import_module("pyarrow.compute")  # which has no functions for a type checker

    if column.is_category or not is_numeric(cells):
        texts = as_texts(cells, column.name, file)
        if column.is_category:
            codes = compute.index_in(texts, value_set=pyarrow.array(column.categories))
            return codes.fill_null(-1).to_numpy(zero_copy_only=False)
        cells = texts
    numbers = cells.cast(pyarrow.float64())
    return numbers.fill_null(float("nan")).to_numpy(zero_copy_only=False)


def check_cells(
    values: np.ndarray, column: Column, kind: str, file: Path, first: int, config: TableConfig
) -> None:
    """Refuse infinity, a missing target, and what is missing if `dataset.missing` says so."""
    missing = values < 0 if column.is_category else np.isnan(values)
    is_target = kind in ("target", "label")
    if (is_target or config.missing is Missing.refuse) and missing.any():
        row = first + int(missing.argmax()) + 1
        problem = f"{column.name}, a target, is missing in row {row}"
        hint = "Mend the cell, or remove the row: no key leaves rows out."
        if not is_target:
            problem = f"{column.name} is missing in row {row}"
            hint = "Mend the cell, or set dataset.missing=mean or indicate."
        raise UserError(KEY, file, problem=problem, hint=hint)
    if not column.is_category and (infinite := np.isinf(values)).any():
        place = int(infinite.argmax())
        problem = f"{column.name} has {values[place]} in row {first + place + 1}"
        raise UserError(KEY, file, problem=problem, hint="Mend or empty the cell.")


def splits_of(cells: "pyarrow.Array", file: Path, first: int, config: TableConfig) -> np.ndarray:
    """Return the places in `SPLITS` that the column `dataset.split` names."""
    import pyarrow

    compute = import_module("pyarrow.compute")  # which has no functions for a type checker

    assert config.split is not None
    texts = as_texts(cells, config.split, file)
    places = compute.index_in(texts, value_set=pyarrow.array(SPLITS)).fill_null(-1)
    found = places.to_numpy(zero_copy_only=False)
    if (found < 0).any():
        place = int((found < 0).argmax())
        problem = f"the table has {texts[place].as_py()!r} in row {first + place + 1} of it"
        raise UserError("dataset.split", config.split, problem=problem, hint=SPLIT_HINT)
    return found


def check_split(files: Mapping[str, Path], config: TableConfig) -> None:
    """Refuse `dataset.split` beside files for the splits, or of a column that is not there."""
    if config.split is not None:
        require_column("dataset.split", config.split, read_names(files["train"], config))
        if len(files) > 1:
            problem = "the folder has files for the splits already"
            raise UserError("dataset.split", config.split, problem=problem, hint="Leave it out.")
