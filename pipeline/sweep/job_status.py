"""Status of a sweep job, derived from the files in its folder.

The plan that a sweep prints at its start and the decision before each job both use it.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pipeline.config.experiment import Config, Mode
from pipeline.devices.world import find_world
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.signature import signature
from pipeline.sweep.run_index import RunIndex, signatures_in, training_run_in


class JobState(Enum):
    """Decision of a sweep about a job; the value is the message for the user."""

    new = "starts"
    restarted = "starts again"
    resumed = "resumes at step"
    finished = "is finished"
    failed = "has failed; sweep.retry_failed=true tries it again"
    running = "is already running"
    refused = "is refused"
    duplicate = "is the same as job"


@dataclass(frozen=True)
class JobStatus:
    """Status of a job; `number` is the step that it resumes from, or the job that it is a copy of."""

    state: JobState
    number: int | None = None

    @property
    def is_due(self) -> bool:
        """True if the job is to start or to resume."""
        return self.state in (JobState.new, JobState.restarted, JobState.resumed)

    @property
    def is_open(self) -> bool:
        """True if the job is still to run, or running."""
        return self.is_due or self.state is JobState.running

    def describe(self) -> str:
        """Return the message for the user, such as "resumes at step 60"."""
        return self.state.value if self.number is None else f"{self.state.value} {self.number}"


def job_status(config: Config, folder: Path) -> JobStatus:
    """Derive the status of a job from its folder, which `job_folder_for` has found."""
    if not is_identifiable(config) or signature(config) not in signatures_in(folder):
        return JobStatus(JobState.new)
    run = RunFolder(folder)
    status = run.status
    # Other ranks of the job find the run of rank 0 and have to join it.
    if find_world().is_main and run.running:
        return JobStatus(JobState.running)
    if status == "completed":
        return JobStatus(JobState.finished)
    if status == "failed" and not config.sweep.retry_failed:
        return JobStatus(JobState.failed)
    if checkpoints := checkpoints_of(folder):
        return JobStatus(JobState.resumed, checkpoints[0].step)
    return JobStatus(JobState.restarted)


def job_folder_for(
    sweep: Path, name: str, config: Config | None, runs: RunIndex | None = None
) -> Path:
    """Find the folder of a job by its signature, or return a new one below `sweep`, called `name`.

    `config` is None if it was refused. `runs` are those of the sweep, if many jobs are looked for at once.
    """
    folder = sweep / name
    if config is None:
        return folder if is_vacant(folder) else sweep / f"{name}_refused"
    if not is_identifiable(config):
        return folder
    wanted = signature(config)
    if wanted in signatures_in(folder):
        return folder
    found = (runs or RunIndex(sweep)).find(wanted) if sweep.is_dir() else None
    if found is not None:
        return found
    return folder if is_vacant(folder) else sweep / f"{name}_{wanted[:8]}"


def is_identifiable(config: Config) -> bool:
    """Return whether the signature identifies a job: it trains, from its own checkpoints."""
    return config.mode is Mode.train and not config.checkpoint and config.resume in (None, "auto")


def is_vacant(folder: Path) -> bool:
    """Return whether a folder holds no run that a later command could resume."""
    run = training_run_in(folder)
    return (run is None or run.signature is None) and not checkpoints_of(folder)
