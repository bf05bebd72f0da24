"""Files of a table: CSV and Parquet, read part by part."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.own_datasets import TableConfig
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError
from pipeline.user_code import library_missing

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.csv

KEY = "dataset.path"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*SEPARATORS, ".parquet")
BLOCK = 2**22  # bytes of a CSV file that are parsed at once


def find_files(config: TableConfig) -> dict[str, Path]:
    """Return the files by split; a single one is `train`.

    Raises:
        UserError: there is no such file, or none for training.
    """
    hint = "Set dataset.path to a .csv, .tsv or .parquet file, or a folder with a train file."
    if not config.path:
        raise UserError(KEY, "''", "a table, or a folder of them", hint)
    path = Path(config.path).expanduser().absolute()
    if not path.exists():
        raise UserError(
            KEY, path, problem="there is no such file or folder", hint=nearest_path(path) + hint
        )
    if path.is_file():
        if ending_of(path) not in ENDINGS:
            raise UserError(KEY, path, problem="it is no .csv, .tsv or .parquet file", hint=hint)
        return {"train": path}
    found: dict[str, Path] = {}
    for file in sorted(file for file in path.iterdir() if ending_of(file) in ENDINGS):
        split = file.name.partition(".")[0]
        if split in found:
            problem = f"{found[split].name} and {file.name} are both for {split}"
            raise UserError(KEY, path, problem=problem)
        if split in SPLITS:
            found[split] = file
    if "train" not in found:
        problem = "this folder has no train.csv, train.tsv or train.parquet"
        raise UserError(KEY, path, problem=problem)
    return found


def ending_of(file: Path) -> str:
    """Return the ending that tells the format; `.gz` after it is left out."""
    return Path(file.name.removesuffix(".gz")).suffix.lower()


def is_text(file: Path) -> bool:
    """Tell whether a file is CSV, in which numbers are written as text."""
    return ending_of(file) in SEPARATORS


def read_names(file: Path, config: TableConfig) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        UserError: the file has another separator or no header, or a name twice.
    """
    with readable(file):
        if is_text(file):
            names = open_csv(file, config).schema.names
        else:
            names = import_module("pyarrow.parquet").ParquetFile(file).schema_arrow.names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(KEY, file, problem=f"it has two columns {twice}")
    if is_text(file) and len(names) == 1:
        used = separator_of(file, config)
        other = next((mark for mark in ";\t|," if mark in names[0] and mark != used), None)
        problem = f"its first line has one column: {names[0]}"
        shown = "'\"\\t\"'" if other == "\t" else f"'\"{other}\"'"
        hint = f"Set dataset.separator={shown}." if other else "Set dataset.separator."
        raise UserError(KEY, file, problem=problem, hint=hint)
    if is_text(file) and all(is_number(name) for name in names):
        problem = f"its first line has numbers, not names of columns: {', '.join(names[:5])}"
        raise UserError(KEY, file, problem=problem, hint="Add a line of names above it.")
    return names


def read_parts(
    file: Path, columns: Sequence[str], config: TableConfig
) -> Iterator["pyarrow.RecordBatch"]:
    """Yield the rows of a file in parts with these columns; those of CSV are strings."""
    with readable(file):
        if is_text(file):
            yield from open_csv(file, config, columns)
        else:
            parquet = import_module("pyarrow.parquet").ParquetFile(file)
            yield from parquet.iter_batches(columns=list(columns))


def open_csv(
    file: Path, config: TableConfig, columns: Sequence[str] = ()
) -> "pyarrow.csv.CSVStreamingReader":
    """Open a CSV file as a stream of its rows, with some of the columns as strings, or with all."""
    arrow, csv = import_module("pyarrow"), import_module("pyarrow.csv")
    return csv.open_csv(
        file,
        csv.ReadOptions(use_threads=False, block_size=BLOCK),  # threads lose the row of an error
        csv.ParseOptions(delimiter=separator_of(file, config), newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(columns, arrow.string()), include_columns=list(columns)
        ),
    )


def separator_of(file: Path, config: TableConfig) -> str:
    """Return `dataset.separator`, or that of the file's ending."""
    given = SEPARATORS[ending_of(file)] if config.separator is None else config.separator
    given = given.replace("\\t", "\t")
    if len(given) != 1:
        allowed = "one character, such as ';', or '\\t'"
        raise UserError("dataset.separator", config.separator, allowed)
    return given


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def readable(file: Path) -> Generator[None]:
    """Raise a `UserError` in place of one of pyarrow about a file, or of its absence."""
    try:
        import_module("pyarrow")
    except ImportError as error:
        raise library_missing("pyarrow", "dataset", "table", error) from error
    try:
        yield
    except (ValueError, OSError) as error:  # pyarrow's are subclasses of these
        text = str(error).strip().partition("\n")[0].rstrip(".")
        problem = "it is empty" if "Empty CSV file" in text else f"it cannot be read: {text}"
        hint = "Set dataset.separator, if it is no comma." if "Expected 1 columns" in text else ""
        raise UserError(KEY, file, problem=problem, hint=hint) from error
