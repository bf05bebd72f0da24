"""A run on disk: its folder, who it is, and what came of it."""

import json
import os
import platform
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.config import Config, plain
from pipeline.errors import UserError

IDENTITY = "run.json"  # who a run is; what makes a folder a run's
RESULT = "result.json"  # what came of it
SWEEP = "sweep.json"  # in the folder of a sweep: the process that runs it

# What of it tables of many runs show.
SUMMARY = (
    "status", "best", "seconds", "throughput", "peak_memory_mb", "steps", "epochs", "parameters",
    "init_digest", "data_digest", "signature", "devices",
)  # fmt: skip

# What cannot change the result, and so does not make another run.
IRRELEVANT = {
    "name", "mode", "resume", "checkpoint", "tags", "logger", "sweep",
    "dataset.root", "dataset.download",
    "train.stop_after", "train.profile", "train.log_every", "train.eval_batch_size",
}  # fmt: skip


def signature(config: Config) -> str:
    """A hash of the resolved configuration without what cannot change the result."""
    relevant = {key: value for key, value in flat(plain(config)).items() if not irrelevant(key)}
    return sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def irrelevant(key: str) -> bool:
    """Whether a dotted key, or a node that it lies in, cannot change the result."""
    parts = key.split(".")
    return any(".".join(parts[:depth]) in IRRELEVANT for depth in range(1, len(parts) + 1))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config with dotted keys."""
    leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a result that tables of many runs show, flat: `best.value`, `seconds.total` …"""
    return flat({key: result[key] for key in SUMMARY if result.get(key) is not None})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file whole."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file whole."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place once it is written whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON file, or None where there is none or it is torn."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def this_process() -> dict[str, Any]:
    """Who is at work, for others to find out whether it still is: see `another_at_work`."""
    return {"host": platform.node(), "process": os.getpid()}


def another_at_work(known: dict[str, Any]) -> bool:
    """Whether another process of this machine, noted by `this_process`, is still at work."""
    if known.get("host") != platform.node() or known.get("process") == os.getpid():
        return False
    command = Path(f"/proc/{known['process']}/cmdline")
    return command.exists() and "run.py" in command.read_text(errors="replace")


def slurm_runs(job: str) -> bool:
    """Whether Slurm, where it is at hand, has a job running or waiting to run again."""
    try:
        command = ["squeue", "--noheader", "--jobs", job]
        return bool(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: that Hydra made for it.
    """

    path: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """What `result.json` says, if it is there."""
        return read_json(self.path / RESULT)

    def write_result(self, result: dict[str, Any]) -> None:
        """Replace `result.json`."""
        write_json(self.path / RESULT, result)

    def wandb_id(self) -> str:
        """The run's id in W&B: drawn once, written before training, found again on resume.

        Under an agent of a W&B sweep, which has already said which run this is, it is that one's.
        """
        known = read_json(self.path / IDENTITY)
        of_agent = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        return known["wandb_id"] if known else of_agent or secrets.token_hex(4)

    @property
    def running(self) -> bool:
        """Whether another process, of this machine or in a job of Slurm's, is at work on the run."""
        known = read_json(self.path / IDENTITY)
        if not known or self.result:
            return False
        job = known.get("slurm_job")
        if job is not None:
            return job != os.environ.get("SLURM_JOB_ID") and slurm_runs(job)
        return another_at_work(known)

    def identify(self, config: Config) -> None:
        """Write who the run is, before it trains.

        Raises:
            UserError: the folder cannot be written, or the run in it is still running.
        """
        if self.running:
            raise UserError(
                "resume" if config.resume else "hydra.run.dir",
                self.path,
                "the folder of a run that has ended: this one is still running",
                "Wait for it, or stop it first.",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / RESULT).unlink(missing_ok=True)  # of the part before an interruption
            identity = {"signature": signature(config), "wandb_id": self.wandb_id()}
            identity |= this_process()
            identity |= {"slurm_job": os.environ.get("SLURM_JOB_ID")}
            write_json(self.path / IDENTITY, identity | {"config": plain(config)})
        except OSError as error:
            raise UserError(
                "hydra.run.dir",
                self.path,
                f"a folder that can be written ({error.strerror})",
                "Free some space, or choose another with hydra.run.dir=FOLDER.",
            ) from error

    def describe(self, data: dict[str, Any]) -> None:
        """Note the outline of the run's data beside who it is."""
        write_json(self.path / IDENTITY, read_json(self.path / IDENTITY) | {"data": data})
