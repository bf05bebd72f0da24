"""A run on disk: its folder, its identity and its result."""

import os
import secrets
import subprocess
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.atomic_files import read_json, write_json
from pipeline.config.experiment import Config, plain
from pipeline.errors import UserError
from pipeline.storage.run_identity import IDENTITY, RESULT, ProcessIdentity, RunIdentity
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import digests_of, is_same_experiment, signature

if TYPE_CHECKING:  # loads NumPy, which the command line does not need
    from pipeline.data.data_spec import DataSpec

CHECKPOINTS = "checkpoints"  # a folder in that of a run
PREDICTIONS = "predictions.npz"
SWEEP = "sweep.json"  # in the folder of a sweep: identity of its process


def files_below(path: Path, *names: str) -> list[Path]:
    """Find the files with these names at or below a folder, sorted; a run's checkpoints are not searched.

    Folders may disappear meanwhile: other runs may be at work there.
    """
    found: list[Path] = []
    for folder, folders, files in os.walk(path):
        if IDENTITY in files or RESULT in files:
            folders[:] = [name for name in folders if name != CHECKPOINTS]
        found += [Path(folder, name) for name in names if name in files]
    return sorted(found)


def is_in_slurm_queue(job: str) -> bool:
    """Return whether Slurm, where it is installed, has a job running or waiting to run again."""
    try:
        command = ["squeue", "--noheader", "--jobs", job]
        return bool(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def result(self) -> RunResult | None:
        """The content of `result.json`; None if it is missing or torn."""
        content = read_json(self.path / RESULT)
        return None if content is None else RunResult.from_json(content)

    @property
    def identity(self) -> RunIdentity | None:
        """The content of `run.json`; None if it is missing or torn."""
        content = read_json(self.path / IDENTITY)
        return None if content is None else RunIdentity.from_json(content)

    @property
    def status(self) -> str:
        """Status in `result.json`; empty if there is none."""
        result = self.result
        return result.status if result else ""

    def write_result(self, result: RunResult) -> None:
        """Replace `result.json`."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / RESULT, result.to_json())

    def write_failure(self, error: str | None, name: str | None = None) -> None:
        """Set the status to failed with an error message, and keep all other entries of the result.

        `name` is that of the run, if there is no result yet.
        """
        result = self.result or RunResult(name=name)
        self.write_result(replace(result, status="failed", error=error))

    def is_of(self, wanted: str) -> bool:
        """Return whether the run that was identified is the experiment with the signature `wanted`."""
        run = self.identity
        return run is not None and is_same_experiment(run.signature, run.config, run.files, wanted)

    def wandb_id(self) -> str:
        """Return the run's W&B id: from `run.json`, else from the agent of a W&B sweep, else a new one."""
        identity = self.identity
        if identity and identity.wandb_id:
            return identity.wandb_id
        of_agent = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        return of_agent or secrets.token_hex(4)

    @property
    def running(self) -> bool:
        """True if another process, on this machine or in a Slurm job, runs the run."""
        identity = self.identity
        if identity is None or self.result:
            return False
        if (job := identity.slurm_job) is not None:
            return job != os.environ.get("SLURM_JOB_ID") and is_in_slurm_queue(job)
        return identity.process.is_running_elsewhere

    def identify(
        self, config: Config, data: "DataSpec | None" = None, resumed: Path | None = None
    ) -> None:
        """Write `run.json`, with the data spec if it is known; remove the result of an earlier part.

        `resumed` is the folder of the run that this one continues: its checkpoints may come along.
        """
        known = [self.identity, RunFolder(resumed).identity if resumed else None]
        lines = [(*one.earlier_signatures, one.signature or "") for one in known if one]
        own, signatures = signature(config), dict.fromkeys(chain(*lines))
        identity = RunIdentity(
            signature=own,
            earlier_signatures=[other for other in signatures if other not in (own, "")],
            wandb_id=self.wandb_id(),
            process=ProcessIdentity.current(),
            slurm_job=os.environ.get("SLURM_JOB_ID"),
            config=plain(config),
            files=digests_of(plain(config), self.path),
            data=data,
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (RESULT, PREDICTIONS):
                (self.path / name).unlink(missing_ok=True)
            write_json(self.path / IDENTITY, identity.to_json())
        except OSError as error:
            problem = f"this folder cannot be written: {error.strerror}"
            hint = "Free some space, or choose another with hydra.run.dir=FOLDER."
            raise UserError("hydra.run.dir", self.path, problem=problem, hint=hint) from error
