"""metrics.jsonl: every event of a run, one JSON object per line, whatever other loggers are on.

A line is `{"step": 20, "train/loss": 0.5, "optim/lr": 0.1}`. JSON has no NaN and no infinities: they
are the strings "NaN", "Infinity" and "-Infinity", which Python's `float` and JavaScript's `Number` read.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.atomic_files import replacing
from pipeline.errors import UserError
from pipeline.loggers import Logger

log = logging.getLogger(__name__)

Row = dict[str, Any]  # {"step": int, key: float, ...}


class MetricsFile(Logger):
    """Logger that appends to the file `path`; SIGKILL loses at most the line being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(path.name, path, problem="a folder is in its place", hint="Remove it.")
        path.touch()
        # Remove the incomplete line of a killed process.
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self._file = path.open("ab")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(_line({"step": step, **values}))
        self._file.flush()  # the kernel writes it even if this process is killed

    def rewind(self, step: int) -> None:
        rows = [row for row in read_metrics(self.path) if row["step"] <= step and not is_test(row)]
        self._file.close()
        with replacing(self.path) as aside, aside.open("wb") as file:
            file.writelines(map(_line, rows))
        self._file = self.path.open("ab")

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[Row]:
    """Read the events of a metrics.jsonl in the order in which they were logged.

    An incomplete last line, by a process that was killed or is still writing, is left out with a warning.

    Raises:
        UserError: a complete line is not an event.
    """
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        log.warning("%s: left out line %d, which is torn.", path, len(lines) + 1)
    return [_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def is_test(keys: Iterable[str]) -> bool:
    """Return whether a row holds the final test, which comes after all checkpoints."""
    return any(key.startswith("test/") for key in keys)


def _line(row: Row) -> bytes:
    # json.dumps spells NaN and infinities without quotes; as values they become these strings.
    values = {
        key: value if math.isfinite(value) else json.dumps(value) for key, value in row.items()
    }
    return json.dumps(values, allow_nan=False).encode() + b"\n"


def _row(line: bytes, place: str) -> Row:
    try:
        step, values = (row := json.loads(line)).pop("step"), row
        return {"step": int(step)} | {key: float(value) for key, value in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        shown = line[:60].decode(errors="replace")
        allowed = 'an event such as {"step": 1, "train/loss": 0.5}'
        raise UserError(place, shown, allowed, "Mend the line or remove it.") from error
