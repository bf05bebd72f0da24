"""CSV table of metrics for spreadsheets: one row per step, one column per key."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.atomic_files import replacing
from pipeline.loggers import Logger
from pipeline.loggers.metrics_file import Row, is_test


class CsvLogger(Logger):
    """Logger that extends the table `path`; a new key adds a column and rewrites the file once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._row: dict[str, object] = {}  # the last row, which may still get values
        self._start = 0  # its position in the file
        self._columns, rows = _read(path)
        self._write(rows)  # without the incomplete line of a killed process

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

    def rewind(self, step: int, history: Iterable[Row] = ()) -> None:
        """Drop the rows after `step` and the final test; add lost rows of `history`, up to `step`."""
        table: dict[int, Row] = {}
        for row in [*_read(self._path)[1], *history]:
            if int(row["step"]) <= step:
                kept = {key: cell for key, cell in row.items() if cell != "" and not is_test([key])}
                table.setdefault(int(row["step"]), {}).update(kept | {"step": int(row["step"])})
        rows = [table[key] for key in sorted(table)]
        self._columns = list(dict.fromkeys(key for row in rows for key in row))
        self._row = {}
        self._write(rows[:-1])
        for row in rows[-1:]:  # may still get the values of the final test
            self.log(row["step"], row)

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._file.close()

    def _write(self, rows: list[dict]) -> None:
        """Rewrite the file with a header and `rows`, then reopen it for appending."""
        header = dict(zip(self._columns, self._columns, strict=True))
        self._file.close()
        with replacing(self._path) as aside:
            aside.write_bytes(_lines(self._columns, [header, *rows]) if self._columns else b"")
        self._file = self._path.open("ab")


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the columns and rows of a table; an incomplete last line is left out."""
    whole = path.read_text().rpartition("\n")[0]
    reader = csv.DictReader(io.StringIO(whole))
    return list(reader.fieldnames or []), list(reader)


def _lines(columns: list[str], rows: list[dict]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writerows(rows)
    return text.getvalue().encode()
