"""The runs that are compared, as their folders tell of them: finished, failed, running or damaged."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.compare.curves import Reading
from pipeline.errors import UserError
from pipeline.runs import IDENTITY, RESULT, RunFolder, flat

PARITY = "parity.json"  # of pipeline.parity


@dataclass
class Record:
    """A run.

    Attributes:
        folder: of the run.
        result: what `result.json` says; where there is none, what is known without it.
        name: by what tells it from the others.
        reading: its metrics.
        notes: what was wrong with its files.
    """

    folder: Path
    result: dict[str, Any]
    name: str = ""
    reading: Reading = field(default_factory=Reading)
    notes: list[str] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """Its config with dotted keys; empty for a job that was refused."""
        return flat(self.part("config"))

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted`, `running`, or `lost`: it ended without a word."""
        return self.result.get("status") or "lost"

    @property
    def backend(self) -> str | None:
        """By its name."""
        return self.config.get("backend.name")

    @property
    def test(self) -> dict[str, float]:
        """Its test metrics."""
        return self.part("test")

    def best_value(self, metric: str | None) -> float | None:
        """Its best value, where it was judged by this metric and has a finite one."""
        value = self.best.get("value") if metric and self.best.get("metric") == metric else None
        return value if isinstance(value, float | int) and abs(value) < float("inf") else None

    @property
    def best(self) -> dict[str, Any]:
        """What was best, as `result.json` has it: metric, value, step, checkpoint."""
        return self.part("best")

    def part(self, key: str) -> dict[str, Any]:
        """A part of the result; empty where there is none."""
        return self.result.get(key) or {}


def collect(paths: Sequence[Path]) -> list[Record]:
    """Every run at or below some folders, in the order of the jobs.

    Raises:
        UserError: there is none.
    """
    folders = dict.fromkeys(folder for path in paths for folder in run_folders(path))
    if not folders:
        raise UserError(
            "PATH", " ".join(map(str, paths)), "a run or a sweep", "Runs are below outputs/."
        )
    return [record(folder) for folder in folders]


def run_folders(path: Path) -> list[Path]:
    """The folders of runs at or below a path; a job that was killed early has one of the files only."""
    found = {file.parent for name in (IDENTITY, RESULT) for file in path.glob(f"**/{name}")}
    return sorted(found, key=job_number)


def job_number(run: Path) -> tuple[str, int, str]:
    """Sort key: the sweep, a job's number in it, then its name."""
    first = run.name.partition("_")[0]
    return (str(run.parent), int(first) if first.isdigit() else 0, run.name)


def record(folder: Path) -> Record:
    """A run, without its metrics."""
    notes: list[str] = []
    result = content(folder / RESULT, notes)
    if result is None:
        known = content(folder / IDENTITY, notes) or {}
        status = "running" if RunFolder(folder).running else "lost"
        if status == "lost":
            notes.append(f"no {RESULT}: the run ended without a word")
        result = {"status": status, "config": known.get("config"), **pick(known, "signature")}
    return Record(folder, {"name": folder.name} | checked(result, notes), notes=notes)


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# What the entries of a result are, as far as a comparison builds on them.
FORMS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("status", "error", "name"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("throughput", "peak_memory_mb", "steps", "device_count"), is_number),
    **dict.fromkeys(("config", "hardware", "versions"), lambda value: isinstance(value, dict)),
    **dict.fromkeys(
        ("test", "seconds"),
        lambda value: isinstance(value, dict) and all(map(is_number, value.values())),
    ),
    "best": lambda value: (
        isinstance(value, dict)
        and isinstance(value.get("metric"), str)
        and is_number(value.get("value"))
    ),
}


def checked(result: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """A result without what is not of its form, of which a note is left."""
    kept = {}
    for key, value in result.items():
        if value is None or key not in FORMS or FORMS[key](value):
            kept[key] = value
        elif not (key == "best" and isinstance(value, dict) and value.get("value") is None):
            notes.append(f"{RESULT}: {key} makes no sense and is left out: {str(value)[:60]}")
    return kept


def content(file: Path, notes: list[str]) -> dict[str, Any] | None:
    """What a JSON file says; None where there is none, and a note where it cannot be read."""
    try:
        read = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{file.name} cannot be read: {error}")
        return None
    if isinstance(read, dict):
        return read
    notes.append(f"{file.name} is no result, but {type(read).__name__}")
    return None


def pick(source: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Some of a dictionary's entries, as far as they are there."""
    return {key: source[key] for key in keys if key in source}


def parities(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """What checks of parity at or below some folders have found."""
    for file in dict.fromkeys(file for path in paths for file in sorted(path.glob(f"**/{PARITY}"))):
        if found := content(file, []):
            yield pick(found, "verdict", "sentence", "precision", "steps") | {
                "folder": str(file.parent)
            }
