"""What will become of a job of a sweep, told from what it has left in the sweep's folder.

The plan that a sweep shows at its start and the decision at each job's turn come from here.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pipeline.checkpoints import checkpoints_of
from pipeline.config import Config, Mode
from pipeline.runs import IDENTITY, RESULT, RunFolder, read_json, signature
from pipeline.world import find_world


class Fate(Enum):
    """What will become of a job."""

    new = "starts"
    again = "starts again"
    resumed = "goes on from step"
    finished = "is finished"
    failed = "has failed; sweep.retry_failed=true tries it again"
    running = "is running"


@dataclass(frozen=True)
class Prospect:
    """What will become of a job, and where.

    Args:
        fate: in one word.
        folder: of the job.
        step: of the checkpoint that it goes on from.
    """

    fate: Fate
    folder: Path
    step: int = 0

    @property
    def runs(self) -> bool:
        """Whether there is anything to do."""
        return self.fate in (Fate.new, Fate.again, Fate.resumed)

    @property
    def over(self) -> bool:
        """Whether its end is known: there is nothing to do, nor to wait for."""
        return self.fate in (Fate.finished, Fate.failed)

    @property
    def words(self) -> str:
        """For a person, after the name of the job."""
        return f"{self.fate.value} {self.step}" if self.fate is Fate.resumed else self.fate.value


def prospect(config: Config, folder: Path) -> Prospect:
    """What will become of a job.

    Args:
        config: of the job.
        folder: from `place`.
    """
    if not recognisable(config) or signature_in(folder) != signature(config):
        return Prospect(Fate.new, folder)
    run = RunFolder(folder)
    status = (run.result or {}).get("status")
    # Of a job's several processes the first may have begun with it already.
    if find_world().first and run.running:
        return Prospect(Fate.running, folder)
    if status == "completed":
        return Prospect(Fate.finished, folder)
    if status == "failed" and not config.sweep.retry_failed:
        return Prospect(Fate.failed, folder)
    if found := checkpoints_of(folder):
        return Prospect(Fate.resumed, folder, found[0].step)
    return Prospect(Fate.again, folder)


def place(sweep: Path, name: str, config: Config | None) -> Path:
    """The folder of a job: where it is already, whatever its number was then, or one of its own.

    Args:
        sweep: the folder of the sweep.
        name: for a folder of its own.
        config: of the job; None where it was refused.
    """
    folder = sweep / name
    if config is None:
        return folder if vacant(folder) else sweep / f"{name}_refused"
    if not recognisable(config):
        return folder
    own = signature(config)
    if signature_in(folder) == own:
        return folder
    others = sorted(path for path in sweep.iterdir() if path.is_dir()) if sweep.is_dir() else []
    for other in others:
        if signature_in(other) == own:
            return other
    return folder if vacant(folder) else sweep / f"{name}_{own[:8]}"


def recognisable(config: Config) -> bool:
    """Whether a job is known by its signature: one that trains, and from its own checkpoints only."""
    return config.mode is Mode.train and not config.checkpoint and config.resume in (None, "auto")


def signature_in(folder: Path) -> str | None:
    """The signature of the training in a folder.

    A job that was killed before it could say who it is has one in its result alone.
    """
    for name in (IDENTITY, RESULT):
        known = read_json(folder / name)
        if known and (known.get("config") or {}).get("mode", "train") == "train":
            return known.get("signature")
    return None


def vacant(folder: Path) -> bool:
    """Whether no job has come far enough in a folder to be known again."""
    return signature_in(folder) is None and not checkpoints_of(folder)
