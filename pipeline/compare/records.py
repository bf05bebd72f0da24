"""Runs to compare, read from their folders: completed, failed, running or damaged."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pipeline import tasks
from pipeline.atomic_files import read_json
from pipeline.backend_specs import label_of
from pipeline.compare.curves import Reading
from pipeline.errors import BadArgument
from pipeline.formatting import finite
from pipeline.storage.recorder_state import Best
from pipeline.storage.run_folder import RunFolder, files_below
from pipeline.storage.run_identity import IDENTITY, RESULT, RunIdentity
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import flat

PARITY = "parity.json"  # of pipeline.parity


@dataclass
class Record:
    """A run to compare.

    `result` is its `result.json`, or the part of it that `run.json` gives; `name` has the values of the
    keys that differ between runs; `notes` are warnings about its files.
    """

    folder: Path
    result: RunResult
    name: str = ""
    reading: Reading = field(default_factory=Reading)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def config(self) -> dict[str, object]:
        """Config with dotted keys, the backend by its label; empty for a refused job.

        A comparison asks for it many times.
        """
        config = flat(dict(self.result.config))
        if self.backend:
            config["backend.name"] = self.backend
            config.pop("backend.compile", None)
        return config

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted`, `running`, or `lost` without a result."""
        return self.result.status or "lost"

    @property
    def backend(self) -> str | None:
        """Label of the backend: `torch`, `torch_compiled` or `jax`."""
        return label_of(self.result.config.get("backend") or {})

    def best_value(self, metric: str | None) -> float | None:
        """Return the best value, if this metric was monitored and the value is finite."""
        return finite(self.best.value) if metric and self.best.metric == metric else None

    @property
    def best(self) -> Best:
        """Best evaluation."""
        return self.result.best or Best(None, None, 0)


def collect(paths: Sequence[Path]) -> list[Record]:
    """Read every run at or below some folders, in the order of the jobs; at least one must exist."""
    folders: dict[Path, None] = {}
    for path in paths:  # a job killed early has only one of the two files
        found = {file.parent for file in files_below(path, IDENTITY, RESULT)}
        folders |= dict.fromkeys(sorted(found, key=job_number))
    if not folders:
        given = " ".join(map(str, paths))
        raise BadArgument(given, "a run or a sweep", "Runs are below outputs/.")
    return [record(folder) for folder in folders]


def direction(records: Sequence[Record], metric: str | None) -> str:
    """Return `max` if more is better of a metric, by the tasks here or a user's own, else `min`."""
    name = str(metric).rpartition("/")[2]
    own = any(name in cast("list", record.config.get("task.maximized", [])) for record in records)
    return "max" if own else tasks.direction(name)


def job_number(run: Path) -> tuple[str, int, str]:
    """Return the sort key of a run: its sweep, its number in it, then its name."""
    first = run.name.partition("_")[0]
    return (str(run.parent), int(first) if first.isdigit() else 0, run.name)


def record(folder: Path) -> Record:
    """Read a run without its metrics."""
    notes: list[str] = []
    known = content(folder / RESULT, notes)
    if known is not None:
        result = RunResult.from_json(known, notes)
        if result.fallback:
            notes.append(f"its speed is that of a CPU, though there was a GPU: {result.fallback}")
    else:
        identity = RunIdentity.from_json(content(folder / IDENTITY, notes) or {})
        status = "running" if RunFolder(folder).running else "lost"
        if status == "lost":
            notes.append(f"no {RESULT}: the run ended without writing one")
        result = RunResult(status=status, config=identity.config, signature=identity.signature)
    return Record(folder, replace(result, name=result.name or folder.name), notes=notes)


def content(file: Path, notes: list[str]) -> dict[str, Any] | None:
    """Read a JSON file; None, with a note, if it is no object."""
    try:
        read = json.loads(file.read_text())
        if isinstance(read, dict):
            return read
        notes.append(f"{file.name} is no JSON object, but {type(read).__name__}")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        notes.append(f"{file.name} cannot be read: {error}")
    return None


def parities(paths: Sequence[Path]) -> Iterator[dict[str, object]]:
    """Yield the results of `pipeline.parity` at or below some folders."""
    for file in dict.fromkeys(file for path in paths for file in files_below(path, PARITY)):
        if result := read_json(file):
            known = {key: result[key] for key in ("verdict", "sentence") if key in result}
            if isinstance(backends := result.get("backends"), list):
                known["backends"] = " and ".join(map(str, backends))
            yield {"folder": str(file.parent)} | known
