"""Jobs of a sweep that train at once: grouped by their shape, each group in one process."""

import os
import signal
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, open_dict

from pipeline.devices.launch_ranks import NOT_FAILED
from pipeline.formatting import format_numbers
from pipeline.job_context import job_context, publish
from pipeline.run.together.members import write_members
from pipeline.run.together.run_inputs import described, differing_keys, obstacle, shape_of
from pipeline.storage.run_folder import RunFolder
from pipeline.sweep.job_status import JobState
from pipeline.sweep.planned_job import PlannedJob
from pipeline.sweep.processes.allocation import allocate
from pipeline.sweep.run_job import (
    WHY_ALONE,
    SweepJob,
    note_crash,
    obstacle_of_launcher,
    start_job,
    wait_for_child,
)
from pipeline.sweep.stop_sweep import stop

MOST_KEYS = 3  # in a message


def run_vectorized_jobs(jobs: Sequence[PlannedJob], sweep: DictConfig) -> list[PlannedJob]:
    """Run the jobs that can train at once, group by group; return those that run by themselves.

    It prints why each of these does.
    """
    groups: dict[str, list[PlannedJob]] = {}
    reasons: dict[int, str] = {}
    for job in jobs:
        if reason := _obstacle(job, sweep):
            reasons[job.number] = reason
        elif job.config:
            groups.setdefault(shape_of(job.config), []).append(job)
    for shape, group in groups.items():
        if len(group) == 1:
            reasons[group[0].number] = _why_alone(shape, [one for one in groups if one != shape])
    WHY_ALONE.update(
        {job.folder.absolute(): reasons[job.number] for job in jobs if job.number in reasons}
    )
    for reason in dict.fromkeys(reasons.values()):
        names = format_numbers([number for number in reasons if reasons[number] == reason])
        print(f"by itself: job {names}: {reason}", flush=True)
    for shape, group in groups.items():
        if len(group) > 1 and stop.exit_code is None:
            run_group(group, sweep, _why_apart(shape, [one for one in groups if one != shape]))
    return [job for job in jobs if job.number in reasons]


def _obstacle(job: PlannedJob, sweep: DictConfig) -> str | None:
    if reason := obstacle_of_launcher(sweep.hydra):
        return reason
    if job.status.state is JobState.running:
        return "it is already running"
    return obstacle(job.config) if job.config else "its config is refused"


def _why_alone(shape: str, others: Sequence[str]) -> str:
    """Return why no other job trains with one of this shape, as a clause."""
    keys = differing_keys(shape, others)[:MOST_KEYS]
    if not keys:
        return "there is no other job to train with"
    told = ", ".join(described(key, shape) for key in keys)
    return f"every other job differs in what one program shares, such as {told}"


def _why_apart(shape: str, others: Sequence[str]) -> str:
    """Return the numbers that part jobs of one shape from those most like them, in words; or nothing."""
    told = {key: described(key, shape) for key in differing_keys(shape, others)}
    is_by_numbers = told and all(words != key for key, words in told.items())
    return f"; apart from others by {', '.join(told.values())}" if is_by_numbers else ""


def run_group(group: Sequence[PlannedJob], sweep: DictConfig, apart: str = "") -> None:
    """Run jobs in one process, and print the error of each that fails; `apart` ends the line at its start."""
    stop.listen()
    publish(replace(job_context(), sweep_pid=os.getpid()))
    numbers = format_numbers([job.number for job in group])
    print(f"{len(group)} jobs train at once: {numbers}{apart}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "members"
        write_members([job.member for job in group], file)
        lead = _lead(group[0], sweep, file)
        with allocate(
            lead.config, None, lambda: stop.exit_code is not None, lead.print
        ) as allocation:
            child = start_job(lead, allocation) if allocation else None
            if child is None:  # the sweep was stopped
                return
            code = wait_for_child(child)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    for job in group:
        work = replace(lead, config=job.member.config, folder=job.member.folder, name=job.name)
        if code not in NOT_FAILED:
            note_crash(work, how)
        if RunFolder(work.folder).status == "failed":
            work.print_failure()


def _lead(job: PlannedJob, sweep: DictConfig, members: Path) -> SweepJob:
    """Return the first job of a group, whose process trains all."""
    hydra = deepcopy(sweep.hydra)
    with open_dict(hydra):
        hydra.overrides.task = list(job.overrides)
    assert job.config, "a job that is refused does not run"
    return SweepJob(job.config, job.folder.absolute(), job.name, hydra, str(members))
