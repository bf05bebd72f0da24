"""A job of a sweep as it is planned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config.experiment import Config
from pipeline.run.together.members import Member
from pipeline.sweep.job_names import differing, setting_of
from pipeline.sweep.job_status import JobState, JobStatus


@dataclass(frozen=True)
class PlannedJob:
    """A job before the sweep starts; `error` is the reason if its config is refused, or else `config`."""

    number: int
    overrides: Sequence[str]
    folder: Path
    status: JobStatus
    error: Exception | None = None
    config: Config | None = None

    @property
    def member(self) -> Member:
        """The job as a process takes it that trains several at once; one that was interrupted resumes."""
        assert self.config, "a job that is refused does not run"
        config, folder = self.config, self.folder.absolute()
        if self.status.state is JobState.resumed:
            config = replace(config, resume=str(folder))
        overrides = tuple(self.overrides)
        return Member(config, folder, self.name, setting_of(overrides), overrides)

    @property
    def name(self) -> str:
        """Name of the job: the overrides that differ between jobs."""
        return " ".join(differing(self.overrides)) or f"job {self.number}"
