"""Table of labels: a CSV file with the columns `file` and `label`, and `split` if splits are given."""

import csv
import os
from pathlib import Path

import numpy as np

from pipeline.data.sources.folder.listing import File, Listing, make_listing
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError


def list_table(root: Path, table: Path, separator: str | None) -> Listing:
    """List the images that a table names, in its order; `separator` stands between several labels.

    Raises:
        UserError: the table cannot be read, lacks a column, or names a file that is not there.
    """
    try:
        rows = read_table(table, separator is not None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UserError("dataset.labels", table, problem=problem) from error
    files = list_files(root, table, [row["file"] for row in rows])
    splits = None
    if "split" in rows[0]:
        splits = np.array([SPLITS.index(row["split"]) for row in rows], np.int8)
        if (splits > 0).all():
            raise UserError("dataset.labels", table, problem="no row has split=train")
    cells = [row["label"].split(separator) if separator else [row["label"]] for row in rows]
    named = [[label.strip() for label in cell if label.strip()] for cell in cells]
    classes = tuple(sorted({label for labels in named for label in labels}, key=by_number_or_name))
    numbers = {name: number for number, name in enumerate(classes)}
    if separator is None:
        labels = np.array([numbers[label] for [label] in named], np.int64)
    else:
        labels = np.zeros((len(rows), len(classes)), np.uint8)
        for row, those in enumerate(named):
            labels[row, [numbers[label] for label in those]] = 1
    return make_listing(root, files, labels, classes, splits)


def list_files(root: Path, table: Path, names: list[str]) -> list[File]:
    """Return the files of a table; refuse names that are not there."""
    files, missing = [], []
    for name in names:
        try:
            stat = os.stat(root / name)
            files.append(File(name, stat.st_size, stat.st_mtime_ns))
        except (FileNotFoundError, NotADirectoryError):
            missing.append(name)
        except OSError as error:
            problem = f"{root / name} cannot be read: {error.strerror}"
            raise UserError("dataset.labels", table, problem=problem) from error
    if missing:
        problem = f"{len(missing)} of its {len(names)} files are not below {root}: {missing[0]}"
        hint = "The column file has paths below dataset.root."
        raise UserError("dataset.labels", table, problem=problem, hint=hint)
    return files


def read_table(table: Path, may_be_empty: bool) -> list[dict[str, str]]:
    """Read a table's rows, and check its columns and splits."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = reader.fieldnames or []
        for needed in ("file", "label"):
            if needed not in columns:
                problem = f"it has no column {needed}, but {', '.join(columns) or 'none'}"
                hint = "Its first line must name the columns: file,label."
                raise UserError("dataset.labels", table, problem=problem, hint=hint)
        rows = list(reader)
    if not rows:
        raise UserError("dataset.labels", table, problem="it has no rows")
    for number, row in enumerate(rows, 2):
        if not row["file"] or not (row["label"] or may_be_empty):
            raise UserError("dataset.labels", table, problem=f"line {number} lacks a file or label")
        if "split" in row and row["split"] not in SPLITS:
            problem = f"line {number} has the split {row['split']!r}"
            hint = f"It must be one of {', '.join(SPLITS)}."
            raise UserError("dataset.labels", table, problem=problem, hint=hint)
    return rows


def by_number_or_name(label: str) -> tuple[int, float, str]:
    """Sort key of a class: numbers by value, before names."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
