"""Columns of a table: which are used, and which hold numbers or categories."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.checks.suggestions import nearest
from pipeline.config.own_datasets import TableConfig
from pipeline.data.sources.folder.label_table import by_number_or_name
from pipeline.data.sources.table.files import KEY, is_text, read_names, read_parts
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pyarrow

MOST_CATEGORIES = 1000  # of a column
NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[iI]nf(inity)?)$"
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "?")


@dataclass
class Column:
    """A column of a table, as its files tell.

    Attributes:
        rows, numbers: how many cells it has that are not missing, and how many of these are numbers.
        text: its first cell that is no number, with its row and file; None if there is none.
        values: different cells, up to one more than are allowed.
        is_text: whether its cells are categories, whatever they hold.
    """

    name: str
    is_text: bool = False
    rows: int = 0
    numbers: int = 0
    text: tuple[str, int, Path] | None = None
    values: set[str] = field(default_factory=set)

    @property
    def is_category(self) -> bool:
        """True if it holds categories: by choice or type, or since most of its cells are no numbers."""
        return self.is_text or 2 * self.numbers < self.rows

    @property
    def categories(self) -> list[str]:
        """Its different cells in their order."""
        return sorted(self.values, key=by_number_or_name)


def choose_columns(names: Sequence[str], config: TableConfig) -> list[str]:
    """Return the columns that the model gets; refuse one that is not there or is a target."""
    given = {
        "targets": config.targets,
        "columns": config.columns or [],
        "drop": config.drop,
        "categorical": config.categorical,
        "split": [config.split] if config.split is not None else [],
    }
    for key, wanted in given.items():
        for name in wanted:
            require_column(f"dataset.{key}", name, names)
            if wanted.count(name) > 1:
                raise UserError(f"dataset.{key}", name, problem="it is there twice")
    if config.split in config.targets:
        problem = "it is a column of dataset.targets, too"
        raise UserError("dataset.split", config.split, problem=problem)
    shown = ", ".join(names)
    if not config.targets:
        hint = "Set dataset.targets=[COLUMN]."
        raise UserError("dataset.targets", "[]", f"one or more of the columns: {shown}", hint)
    others = {*config.targets, *given["split"]}
    if both := next((name for name in config.columns or () if name in others), None):
        key = "dataset.targets" if both in config.targets else "dataset.split"
        raise UserError("dataset.columns", both, problem=f"it is a column of {key}, too")
    if both := next((name for name in config.drop if name in others), None):
        key = "dataset.targets" if both in config.targets else "dataset.split"
        raise UserError("dataset.drop", both, problem=f"it is a column of {key}, too")
    wanted = names if config.columns is None else config.columns
    columns = [name for name in wanted if name not in others | {*config.drop}]
    if not columns:
        problem = f"no column is left for the model among {shown}"
        raise UserError("dataset.path", config.path, problem=problem)
    return columns


def require_column(key: str, name: str, names: Sequence[str], file: Path | None = None) -> None:
    """Refuse a name that is no column of the table, or of one of its files."""
    if name not in names:
        close = nearest(name, names)
        where = f"{file.name} has" if file else "the table has"
        problem = f"{where} no such column, only {', '.join(names)}"
        raise UserError(key, name, problem=problem, hint=f"Did you mean {close}?" if close else "")


def scan_columns(
    files: Sequence[Path], names: Sequence[str], config: TableConfig
) -> tuple[dict[str, Column], dict[Path, int]]:
    """Read all files once; return what the columns hold, and the number of rows of each file.

    Raises:
        UserError: a file lacks a column or rows, or a column holds texts among numbers, other types, or too
            many categories.
    """
    found = {name: Column(name, name in config.categorical) for name in names}
    lengths: dict[Path, int] = {}
    for file in files:
        there = read_names(file, config)
        for name in names:
            require_column("dataset.path", name, there, file)
        lengths[file] = 0
        for part in read_parts(file, names, config):
            for name in names:
                scan_part(found[name], part.column(name), file, lengths[file])
            lengths[file] += part.num_rows
        if not lengths[file]:
            raise UserError(KEY, file, problem="it has no rows")
    for column in found.values():
        check_column(column)
    return found, lengths


def scan_part(column: Column, cells: "pyarrow.Array", file: Path, first: int) -> None:
    """Add what a part of a column holds; `first` is its first row in the file, from 0."""
    compute = import_module("pyarrow.compute")  # which has no functions for a type checker

    if is_numeric(cells) and not column.is_text:
        column.rows += len(cells) - cells.null_count
        column.numbers += len(cells) - cells.null_count
        return
    texts = as_texts(cells, column.name, file)
    column.rows += len(texts) - texts.null_count
    if is_text(file):
        is_number = compute.match_substring_regex(texts, NUMBER)
        column.numbers += compute.sum(is_number).as_py() or 0
        if column.text is None and compute.any(compute.invert(is_number)).as_py():
            row = compute.index(is_number, False).as_py()
            column.text = texts[row].as_py(), first + row + 1, file
    else:
        column.is_text = True
    if len(column.values) <= MOST_CATEGORIES:
        column.values |= {*compute.unique(texts).to_pylist()} - {None}


def check_column(column: Column) -> None:
    """Refuse texts in a column of numbers, and too many categories."""
    if not column.is_category and column.text is not None:
        text, row, file = column.text
        problem = f"{column.name} has the text {text!r} in row {row}, among numbers"
        hint = f"Mend or empty the cell, or set dataset.categorical=[{column.name}]."
        raise UserError(KEY, file, problem=problem, hint=hint)
    if column.is_category and len(column.values) > MOST_CATEGORIES:
        problem = f"it has more than {MOST_CATEGORIES:,} different texts, such as "
        problem += ", ".join(repr(text) for text in sorted(column.values)[:3])
        hint = f"Set dataset.drop=[{column.name}], or write numbers."
        raise UserError("dataset.columns", column.name, problem=problem, hint=hint)


def is_numeric(cells: "pyarrow.Array") -> bool:
    """Tell whether a column of a Parquet file has a type of numbers."""
    from pyarrow import types

    kind = cells.type
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def as_texts(cells: "pyarrow.Array", name: str, file: Path) -> "pyarrow.StringArray":
    """Return cells as texts without spaces around them, null where they are missing."""
    import pyarrow

    compute = import_module("pyarrow.compute")  # which has no functions for a type checker

    kind = cells.type.value_type if pyarrow.types.is_dictionary(cells.type) else cells.type
    is_string = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    known = is_string or pyarrow.types.is_boolean(kind) or pyarrow.types.is_null(kind)
    if not known and not is_numeric(cells):
        problem = f"the column {name} has the type {kind}: neither numbers nor texts"
        hint = f"Set dataset.drop=[{name}], or write numbers."
        raise UserError(KEY, file, problem=problem, hint=hint)
    texts = compute.utf8_trim_whitespace(cells.cast(pyarrow.string()))
    absent = compute.is_in(texts, value_set=pyarrow.array(MISSING))
    return compute.if_else(absent, pyarrow.scalar(None, pyarrow.string()), texts)
