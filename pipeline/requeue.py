"""A job that Slurm takes off its nodes: it stops in order, is queued again, and goes on.

The run itself is the one owner of this, however it was submitted. Lightning and submitit, which
would each requeue it too, are not asked.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.arguments import quoted
from pipeline.interruption import WARNINGS
from pipeline.runs import RESULT, read_json
from pipeline.saved import is_sweep, unfinished_run
from pipeline.terminal import say
from pipeline.world import World

JOB, RESTARTS = "SLURM_JOB_ID", "SLURM_RESTART_COUNT"
ARRAY = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")


def hold_signals(environment: Mapping[str, str] = os.environ) -> None:
    """Under Slurm, keep what asks the run to stop until it can listen.

    By their defaults these signals would end it in the seconds that it takes to start, unqueued. And
    Slurm may send them to all that a job has started: W&B's own process, which is started before the
    run listens, stays deaf to them, or the last rows would be lost.
    """
    if JOB in environment:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *WARNINGS})


def going_on(arguments: list[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command line of a job that Slurm has started again, told to go on where it stopped."""
    restarted = environment.get(RESTARTS, "0") != "0"
    if not restarted or is_sweep(arguments) or "mode=test" in arguments:
        return arguments
    own = [argument for argument in arguments if not argument.startswith("resume=")]
    run = unfinished_run(own)
    return [*own, f"resume={quoted(run)}"] if run else arguments


def last_word(
    code: int, folder: Path, world: World, environment: Mapping[str, str] = os.environ
) -> int:
    """Have a run that Slurm has interrupted queued again; call when all is written.

    Args:
        code: that the run has ended with.
        folder: of the run.
        world: whose process this is.
        environment: of this process.

    Returns:
        The exit code of this process.
    """
    if JOB not in environment or code not in (130, 143):
        return code
    if not world.first:
        return 0  # or `srun --kill-on-bad-exit` would end the first one while it still writes
    job = job_id(environment)
    if wanted((read_json(folder / RESULT) or {}).get("interrupted_by"), job):
        say(f"job {job} goes back into the queue, and on from its checkpoint when it runs again")
        asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if asked.returncode:
            say(f"Slurm does not take it back: {asked.stderr.strip()}")
    return code


def job_id(environment: Mapping[str, str]) -> str:
    """Of this job; the bare number of an array's last job would mean the whole array."""
    array = [environment[name] for name in ARRAY if name in environment]
    return "_".join(array) or environment[JOB]


def wanted(interrupted_by: str | None, job: str) -> bool:
    """Whether a job is to run again.

    A warning says so itself. SIGTERM has many senders: `scancel` and `srun`, when another rank has
    failed, want an end; a job with a higher priority, and the time limit, do not.
    """
    if interrupted_by in {number.name for number in WARNINGS}:
        return True
    if interrupted_by != signal.SIGTERM.name:
        return False
    told = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    facts = dict(re.findall(r"(JobState|Reason|PreemptTime)=(\S+)", told))
    preempted = facts.get("PreemptTime", "None") != "None" and facts["JobState"] == "RUNNING"
    return preempted or facts.get("Reason") == "TimeLimit"
