"""metrics.jsonl: every event of a run, one JSON object a line, written whatever else is on.

A line is `{"step": 20, "train/loss": 0.5, "optim/lr": 0.1}`. JSON has no NaN and no infinities;
they are the strings "NaN", "Infinity" and "-Infinity", which `float` of Python and `Number` of
JavaScript read.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.loggers import Logger

log = logging.getLogger(__name__)

Row = dict[str, Any]  # {"step": int, key: float, ...}


class MetricsFile(Logger):
    """Appends to `path`. After SIGKILL at most the line in the making is lost.

    Args:
        path: the file; made with its folder if missing, gone on with if there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # What a killed process left unfinished must not run into the next line.
        with path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        self._file = path.open("ab")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(_line({"step": step, **values}))
        self._file.flush()  # into the kernel's hands, which outlive ours

    def rewind(self, step: int) -> None:
        rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        self._file.close()
        replace(self.path, map(_line, rows))
        self._file = self.path.open("ab")

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[Row]:
    """The events of a metrics.jsonl, in the order in which they were logged.

    A last line without its end, the trace of a killed process or of one that is writing right now,
    is left out with a warning.

    Raises:
        UserError: a line that is complete is not an event.
    """
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        log.warning("%s: left out line %d, which is torn.", path, len(lines) + 1)
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def last_values(rows: Iterable[Row]) -> dict[str, float]:
    """The last value of each key."""
    last = {key: value for row in rows for key, value in row.items()}
    last.pop("step", None)
    return last


def replace(path: Path, parts: Iterable[bytes]) -> None:
    """Make `parts` the content of `path`; at any moment the old or the new file is there."""
    aside = path.with_name(path.name + ".new")
    with aside.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _line(row: Row) -> bytes:
    return json.dumps(dict(_writable(row)), allow_nan=False).encode() + b"\n"


def _writable(row: Row) -> Iterator[tuple[str, float | str]]:
    for key, value in row.items():
        if math.isfinite(value):
            yield key, value
        elif math.isnan(value):
            yield key, "NaN"
        else:
            yield key, "Infinity" if value > 0 else "-Infinity"


def _row(line: bytes, place: str) -> Row:
    try:
        step, values = (row := json.loads(line)).pop("step"), row
        return {"step": int(step)} | {key: float(value) for key, value in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = line[:60].decode(errors="replace")
        allowed = 'an event such as {"step": 1, "train/loss": 0.5}'
        raise UserError(place, shown, allowed, "Mend the line or remove it.") from error
