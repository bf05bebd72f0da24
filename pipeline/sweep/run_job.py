"""One job of a sweep, in a child process.

In its own process a job can use DDP under `-m`, and its memory, seeds and crashes do not affect the
next job, with any launcher.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TextIO

from omegaconf import DictConfig, OmegaConf

from pipeline.atomic_files import write_json
from pipeline.child_command import quoted, run_command
from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.config.checks.validate import validate_job_config
from pipeline.config.experiment import Config
from pipeline.devices.device_count import must_launch_ranks
from pipeline.devices.launch_ranks import NOT_FAILED
from pipeline.devices.process_exit import bind_to_parent_and_cores
from pipeline.devices.world import ALONE, find_world
from pipeline.job_context import job_context
from pipeline.storage.run_folder import SWEEP, RunFolder
from pipeline.storage.run_identity import ProcessIdentity
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import signature
from pipeline.sweep.job_names import differing, setting_of
from pipeline.sweep.job_status import JobState, JobStatus, job_status
from pipeline.sweep.processes.allocation import Allocation, allocate
from pipeline.sweep.processes.fork_server import Forked, ForkServerDied, fork_server
from pipeline.sweep.stop_sweep import stop

# Settings of Hydra that each job gets.
PASSED_ON = ("hydra.searchpath", "hydra.verbose", "hydra/job_logging")
IN_TURN = "BasicLauncher"  # Hydra's launcher that starts one job after the other in this process
# Why a job does not train at once with others, by its folder: what this process has found.
WHY_ALONE: dict[Path, str] = {}


def note_sweep(folder: Path, config: DictConfig) -> None:
    """Write the config of a sweep and the identity of its process, for tools that watch it."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    write_json(folder / SWEEP, ProcessIdentity.current().to_json())


@dataclass(frozen=True)
class SweepJob:
    """A job of a sweep; `name` is made of the overrides that differ between jobs.

    `members` is a file of jobs that train at once in its process, itself included.
    """

    config: Config
    folder: Path
    name: str
    hydra: DictConfig
    members: str | None = None

    @cached_property
    def status(self) -> JobStatus:
        """Status of the job at the first access."""
        return job_status(self.config, self.folder)

    @property
    def command(self) -> list[str]:
        """Command that runs the job in its folder, without `-m`."""
        hydra = self.hydra
        arguments = [
            f"--config-dir={source.path}"
            for source in hydra.runtime.config_sources
            if source.provider == "command-line"
        ]
        arguments += [f"--config-name={hydra.job.config_name}", *hydra.overrides.task]
        if self.status.state is JobState.resumed:
            arguments.append(f"resume={quoted(self.folder)}")
        arguments += [key for key in hydra.overrides.hydra if key.lstrip("+").startswith(PASSED_ON)]
        return run_command(arguments, self.folder)

    @property
    def alone(self) -> str | None:
        """Why the job does not train at once with others, if the sweep asks for it."""
        if self.members or not self.config.sweep.vectorize:
            return None
        return WHY_ALONE.get(self.folder.absolute()) or obstacle_of_launcher(self.hydra)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for the command."""
        setting = setting_of(self.hydra.overrides.task)
        sweep = Path(self.hydra.sweep.dir).name
        context = replace(job_context(), name=self.name, sweep=sweep, setting=setting)
        return replace(context, members=self.members, alone=self.alone).variables()

    def is_due(self) -> bool:
        """Return whether the job is to run; print why if not."""
        if not self.status.is_due:
            skipped = ", skipped" if self.status.state is JobState.running else ""
            self.print(f"{self.status.describe()}{skipped}")
        return self.status.is_due

    def print(self, text: str, file: TextIO | None = None) -> None:
        """Print a line about the job."""
        print_job(self.folder, self.name, text, file)

    def print_failure(self) -> None:
        """Print the first line of the error in the job's result."""
        result = RunFolder(self.folder).result
        # Without an error, it is of a run that this command has refused to touch.
        error = (result and result.error) or "its message is above"
        error = error.partition("\n")[0]
        self.print(f"failed: {error}", file=sys.stderr)


def obstacle_of_launcher(hydra: DictConfig) -> str | None:
    """Return why the jobs of a launcher cannot train at once, as a clause; None if they can."""
    if str(hydra.launcher._target_).endswith(IN_TURN):
        return None
    return f"hydra/launcher={hydra.runtime.choices['hydra/launcher']} starts each job by itself"


def make_sweep_job(composed: DictConfig, hydra: DictConfig) -> SweepJob | None:
    """Check the config of a job; None if it is refused, which is printed and written to its result."""
    folder = Path(hydra.runtime.output_dir)
    name = " ".join(differing(hydra.overrides.task)) or f"job {hydra.job.num}"
    try:
        config = validate_job_config(composed)
    except Exception as error:
        message = write_refusal(folder, name, error)
        print_job(folder, name, f"failed: {message}", file=sys.stderr)
        return None
    return SweepJob(config, folder, name, hydra)


def write_refusal(folder: Path, name: str, error: Exception, refused: bool = False) -> str:
    """Write the result of a job whose config is refused, and return the message for the user."""
    message = str(to_user_error(error))
    result = RunResult(name=name, status="failed", error=message, refused=refused)
    RunFolder(folder).write_result(result)
    return message


def run_sweep_job(composed: DictConfig, hydra: DictConfig) -> None:
    """Run one job of a sweep in its own process if it is due, and print its error if it fails."""
    stop.listen()
    if stop.exit_code is not None:
        return
    job = make_sweep_job(composed, hydra)
    if job is None or not job.is_due():
        return
    parallel = hydra.launcher.get("n_jobs")
    with allocate(job.config, parallel, lambda: stop.exit_code is not None, job.print) as share:
        child = start_job(job, share) if share else None
        if child is None:  # the sweep was stopped
            return
        code = wait_for_child(child)
    if code not in NOT_FAILED and find_world().is_main:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        note_crash(job, how)
        job.print_failure()


def print_job(folder: Path, name: str, text: str, file: TextIO | None = None) -> None:
    """Print a line about a job, in the main process only."""
    if find_world().is_main:
        print(f"job {folder.name.partition('_')[0]} ({name}) {text}", file=file, flush=True)


def start_job(job: SweepJob, share: Allocation) -> subprocess.Popen | Forked | None:
    """Start a job, whose processes hold its allocation; None if the sweep was stopped."""
    environment = os.environ | job.environment | share.environment
    # Under Slurm this process runs one job only, and a job that launches ranks computes nothing.
    if find_world().launcher != "slurm" and not must_launch_ranks(job.config, ALONE):
        with suppress(ForkServerDied):  # a new process will report the cause
            server = fork_server(job.config.backend.name, share.cores)
            if stop.exit_code is not None:
                return None
            return server.start(job.command, environment, share.cores, share.descriptors)
    return subprocess.Popen(
        job.command,
        env=environment,
        start_new_session=True,  # signals reach it once, from this process
        preexec_fn=partial(bind_to_parent_and_cores, share.cores),
        pass_fds=share.descriptors,
    )


def wait_for_child(child: subprocess.Popen | Forked) -> int:
    """Wait for a job, forward signals to it, and return its exit code."""
    passed_on = None
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop.signal is not None and stop.signal != passed_on:
                passed_on = stop.signal
                child.send_signal(passed_on)


def note_crash(job: SweepJob, how: str) -> None:
    """Write the result of a job that ended before writing it."""
    run = RunFolder(job.folder)
    result = run.result or RunResult(name=job.name, signature=signature(job.config))
    if not result.is_over:
        run.write_result(replace(result, status="failed", error=how))
