"""A table for spreadsheets: one row per step, one column per key."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from pipeline.loggers import Logger
from pipeline.loggers.metrics_file import replace


class CsvLogger(Logger):
    """Writes `path`, wide. A key seen for the first time adds a column and rewrites the file once.

    Args:
        path: the file; a table that is there is gone on with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._row: dict[str, object] = {}  # the last one, which may still grow
        self._start = 0  # its position in the file
        self._columns, rows = _read(path)
        self._write(rows)  # without the torn line that a kill may have left

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._row.get("step") == step:
            self._row |= values
            self._file.truncate(self._start)
        else:
            self._row = {"step": step, **values}
        if new := [key for key in self._row if key not in self._columns]:
            _, rows = _read(self._path)
            self._columns += new
            self._write(rows)
        self._start = self._path.stat().st_size
        self._file.write(_lines(self._columns, [self._row]))
        self._file.flush()

    def rewind(self, step: int) -> None:
        columns, rows = _read(self._path)
        rows = [row for row in rows if int(row["step"]) <= step]
        self._row = {}
        self._columns = [key for key in columns if any(row[key] for row in rows)]
        self._write(rows)

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._file.close()

    def _write(self, rows: list[dict]) -> None:
        """Replace the file by a header and `rows`, and go on behind them."""
        header = dict(zip(self._columns, self._columns, strict=True))
        self._file.close()
        replace(self._path, [_lines(self._columns, [header, *rows])] if self._columns else [])
        self._file = self._path.open("ab")


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a table; a torn last line is left out."""
    whole = path.read_text().rpartition("\n")[0]
    reader = csv.DictReader(io.StringIO(whole))
    return list(reader.fieldnames or []), list(reader)


def _lines(columns: list[str], rows: list[dict]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writerows(rows)
    return text.getvalue().encode()
