"""Requeue of a job that Slurm interrupts: it saves a checkpoint, is requeued, and resumes.

The run requeues itself, however it was submitted. The requeue of Lightning and of submitit is switched
off.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.child_command import quoted
from pipeline.console import print_and_log
from pipeline.devices.stop_signals import TIME_LIMIT_SIGNALS
from pipeline.devices.world import World
from pipeline.run.unfinished_runs import find_unfinished_run, is_sweep
from pipeline.storage.run_folder import RunFolder

JOB = "SLURM_JOB_ID"


def hold_signals(environment: Mapping[str, str] = os.environ) -> None:
    """Under Slurm, block the stop signals until the run handles them.

    Their default action would end a run during its start, without a requeue. Slurm may also send them to
    all processes of a job. The W&B process inherits the blocked signals; it must outlive the run, or the
    last rows are lost.
    """
    if JOB in environment:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *TIME_LIMIT_SIGNALS})


def resume_if_restarted(
    arguments: list[str], environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the command line, with `resume=` if Slurm has restarted this job."""
    restarted = environment.get("SLURM_RESTART_COUNT", "0") != "0"
    if not restarted or is_sweep(arguments) or "mode=test" in arguments:
        return arguments
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    run = find_unfinished_run(others)
    return [*others, f"resume={quoted(run)}"] if run else arguments


def requeue_if_interrupted(
    code: int, folder: Path, world: World, environment: Mapping[str, str] = os.environ
) -> int:
    """Requeue a run that Slurm has interrupted, after all its files are written; return the exit code.

    The exit code is the run's `code`; in an interrupted rank other than the first it is 0.
    """
    if JOB not in environment or code not in (130, 143):
        return code
    if not world.is_main:
        return 0  # else `srun --kill-on-bad-exit` would end the first rank while it still writes
    job = job_id(environment)
    result = RunFolder(folder).result
    if should_requeue(result.interrupted_by if result else None, job):
        print_and_log(f"job {job} is requeued, and resumes from its checkpoint")
        requeue = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if requeue.returncode:
            print_and_log(f"Slurm refused to requeue it: {requeue.stderr.strip()}")
    return code


def job_id(environment: Mapping[str, str]) -> str:
    """Return the id of this job; the bare number of an array's last job would address the whole array."""
    names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    array = [environment[name] for name in names if name in environment]
    return "_".join(array) or environment[JOB]


def should_requeue(interrupted_by: str | None, job: str) -> bool:
    """Return whether an interrupted job must run again.

    True after a warning signal. SIGTERM has several senders: true after preemption and at the time limit,
    false after `scancel`, and after `srun` when another rank has failed.
    """
    if interrupted_by in {number.name for number in TIME_LIMIT_SIGNALS}:
        return True
    if interrupted_by != signal.SIGTERM.name:
        return False
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    facts = dict(re.findall(r"(JobState|Reason|PreemptTime)=(\S+)", shown))
    preempted = facts.get("PreemptTime", "None") != "None" and facts["JobState"] == "RUNNING"
    return preempted or facts.get("Reason") == "TimeLimit"
