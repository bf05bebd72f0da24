"""Sweep over a grid: its jobs are composed, checked and listed before any of them starts."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.child_command import quoted
from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.config.fields import require
from pipeline.errors import UserError
from pipeline.job_context import job_context, publish
from pipeline.run.resume import read_identity
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_identity import IDENTITY, RESULT
from pipeline.storage.signature import signature
from pipeline.sweep.compose_jobs import Composer
from pipeline.sweep.job_names import check_values, job_folder
from pipeline.sweep.job_needs import missing_need
from pipeline.sweep.job_status import (
    JobState,
    JobStatus,
    is_identifiable,
    job_folder_for,
    job_status,
)
from pipeline.sweep.planned_job import PlannedJob
from pipeline.sweep.run_index import RunIndex
from pipeline.sweep.run_job import note_sweep, write_refusal
from pipeline.sweep.stop_sweep import stop
from pipeline.sweep.vectorize import run_vectorized_jobs

SUBFOLDER = "hydra.sweep.subdir="


def run_grid(
    loader: ConfigLoader,
    launcher: Launcher,
    config: DictConfig,
    batch_size: int | None,
    arguments: Sequence[str],
) -> None:
    """List the status of all combinations of values, then launch the jobs that are not finished.

    The launcher gets `batch_size` jobs at a time; None for all. A running job is launched too: the
    launcher decides whether to wait for it. A dry run ends the process, with 1 if a job is refused.
    """
    for override in config.hydra.overrides.hydra:
        if override.startswith(SUBFOLDER):  # the sweep finds the folder of each job itself
            key, _, value = override.partition("=")
            raise UserError(key, value, "left out", "Name the sweep: name=NAME.")
    folder = Path(config.hydra.sweep.dir)
    jobs = list(plan(loader, config, arguments))
    refused = [(job, job.error) for job in jobs if job.error]
    if len(refused) == len(jobs):
        raise refused[0][1]
    print_plan(jobs, folder, always=config.sweep.dry_run)
    for job, error in refused:
        print(f"job {job.number} ({job.name}) failed: {to_user_error(error)}", file=sys.stderr)
    if config.sweep.dry_run:
        raise SystemExit(1 if refused else 0)
    note_sweep(folder, config)
    remove_refusals(folder)
    for job, error in refused:
        write_refusal(job.folder, job.name, error, refused=True)
    still = [job for job in jobs if job.status.is_open]
    if config.sweep.vectorize:
        still = run_vectorized_jobs(still, config)
    due = [[*job.overrides, f"{SUBFOLDER}{quoted(job.folder.name)}"] for job in still]
    size = batch_size or len(due) or 1
    for first in range(0, len(due), size):
        launch_jobs(launcher, config, due[first : first + size], first)


def plan(loader: ConfigLoader, sweep: DictConfig, arguments: Sequence[str]) -> Iterator[PlannedJob]:
    """Compose and check the jobs, in order."""
    sweep_folder = Path(sweep.hydra.sweep.dir)
    overrides = OverridesParser.create(loader).parse_overrides(list(arguments))
    composer, runs = Composer(loader, sweep), RunIndex(sweep_folder)
    first_with: dict[str, int] = {}
    for number, job in enumerate(combinations(overrides)):
        name = job_folder(number, job)
        try:
            config = composer.config(job)
            for key, path in (("resume", config.resume), ("checkpoint", config.checkpoint)):
                if path and path != "auto":
                    read_identity(Path(path), key)  # refuses a run that does not exist
        except Exception as error:
            folder = job_folder_for(sweep_folder, name, None)
            yield PlannedJob(number, job, folder, JobStatus(JobState.refused), error)
            continue
        folder = job_folder_for(sweep_folder, name, config, runs)
        first = number
        if is_identifiable(config):
            first = first_with.setdefault(signature(config), number)
        is_copy = first != number
        status = JobStatus(JobState.duplicate, first) if is_copy else job_status(config, folder)
        error = missing_need(config, sweep) if status.is_due else None
        if error is not None:
            status = JobStatus(JobState.refused)
        yield PlannedJob(number, job, folder, status, error, config)


def combinations(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """List the overrides of each job; the last of several overrides for one key counts."""
    values: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        check_values(override)
        if override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        elif override.is_sweep_override():
            text = str(override.input_line).partition("=")[2]
            hint = f"List values, as {key}=0.1,0.01, or search: hydra/sweeper=optuna."
            problem = "a grid sweep needs a list of values, not an interval"
            raise UserError(key, text, problem=problem, hint=hint)
        else:
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
    return map(list, product(*values.values()))


def make_launcher(
    context: HydraContext, task_function: TaskFunction, config: DictConfig
) -> Launcher:
    """Build the launcher of a sweep, after a check of its settings."""
    settings = config.hydra.launcher
    if settings._target_ not in Plugins.instance().class_name_to_class:
        chosen = config.hydra.runtime.choices["hydra/launcher"]
        hint = f"Install it: pip install -e '.[{chosen}]'"
        raise UserError("hydra/launcher", chosen, problem="it is not installed", hint=hint)
    jobs = settings.get("n_jobs", 1)
    allowed = "a nonzero number of parallel jobs; -1: one per core"
    require(jobs != 0, "hydra.launcher.n_jobs", jobs, allowed)
    return Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=task_function, config=config
    )


def launch_jobs(
    launcher: Launcher, sweep: DictConfig, jobs: Sequence[Sequence[str]], first: int
) -> list[float | None]:
    """Run jobs and return their objectives; an empty list if the sweep was stopped before all began.

    `jobs` are the overrides of each job, and `first` is the number of the first.
    """
    is_parallel = "n_jobs" in sweep.hydra.launcher
    if is_parallel:
        stop.passes_on = True
        stop.listen()
    publish(replace(job_context(), sweep_pid=os.getpid()))
    try:
        return [job.return_value for job in launcher.launch(jobs, initial_job_idx=first)]
    except Exception:
        if is_parallel and stop.exit_code is not None:
            return []  # a worker was stopped before it had a job
        raise


def print_plan(jobs: Sequence[PlannedJob], folder: Path, always: bool) -> None:
    """Print the status of each job; only the number of jobs if all are new, unless `always`."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # do not wrap lines in a file
    console.print(f"sweep of {len(jobs)} jobs  →  {escape(str(folder))}", soft_wrap=True)
    if not always and all(job.status.state is JobState.new for job in jobs):
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for job in jobs:
        colour = "red" if job.error else "green" if job.status.is_open else "dim"
        text = f"[{colour}]{escape(job.status.describe())}[/]"
        table.add_row(str(job.number), escape(job.name), text)
    console.print(table)


def remove_refusals(folder: Path) -> None:
    """Remove the results of jobs that an earlier command refused."""
    for file in folder.glob(f"*/{RESULT}"):
        result = RunFolder(file.parent).result
        if result and result.refused and not (file.parent / IDENTITY).exists():
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()
