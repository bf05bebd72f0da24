"""Slurm's queue, read with `squeue`, which every cluster has, unlike accounting."""

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic_files import read_json, write_json
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.sweep.run_job import SweepJob

JOB = "slurm.json"  # file in the folder of a job with its number in the queue

GONE = "gone from the queue"  # Slurm forgets a job some minutes after its end
ENDED = {
    GONE, "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip

# Usual reasons to wait, which are not printed.
USUAL = {"None", "Priority", "Resources", "BeginTime", "JobArrayTaskLimit", "Dependency"}

SLURM_MESSAGES = ("srun: error:", "slurmstepd")  # prefixes of Slurm's lines in a job's log

POLL, MAX_POLL = 1.0, 15.0  # seconds between two calls of squeue, at first and later
FILE_DELAY = 10.0  # seconds until a file system shows another machine's writes


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue: its id in Slurm, its number of tasks, and the log of the first task.

    The log has Slurm's messages about all tasks.
    """

    job: SweepJob
    number: str
    tasks: int
    log: Path

    def save(self) -> None:
        """Write the entry into the folder of the job, where a later command finds it."""
        entry = {"job": self.number, "tasks": self.tasks, "log": str(self.log)}
        write_json(self.job.folder / JOB, entry)

    def slurm_message(self) -> str:
        """Return Slurm's first message about the end of the job."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        messages = [line for line in lines if line.startswith(SLURM_MESSAGES)]
        return f"{messages[0]} (in {self.log})" if messages else f"see {self.log}"

    def result(self) -> RunResult | None:
        """Read the result of the job, waiting for the file system; None if it wrote none."""
        until = time.monotonic() + FILE_DELAY
        while (result := RunFolder(self.job.folder).result) is None:
            if time.monotonic() > until:
                return None
            time.sleep(POLL)
        return result


def find_queued(job: SweepJob) -> QueuedJob | None:
    """Find the job that an earlier command has submitted, unless it has ended."""
    noted = read_json(job.folder / JOB)
    if not noted:
        return None
    number = noted["job"]
    state, _ = (job_states([number]) or {}).get(number, (GONE, ""))
    if state in ENDED:
        return None
    job.print(f"is job {number} of Slurm already")
    return QueuedJob(job, number, noted["tasks"], Path(noted["log"]))


def wait_for_jobs(jobs: Iterable[QueuedJob], on_end: Callable[[QueuedJob, str], None]) -> None:
    """Wait until jobs have ended, also if Slurm requeues them; after Ctrl-C they continue.

    `on_end` is called with each job that ends and its state in Slurm.
    """
    waiting, seen, pause = list(jobs), {}, POLL
    try:
        while waiting:
            time.sleep(pause)
            pause = min(MAX_POLL, pause * 1.1)
            states = job_states([job.number for job in waiting])
            if states is None:
                continue
            for job in list(waiting):
                state, reason = states.get(job.number, (GONE, ""))
                if state in ENDED:
                    waiting.remove(job)
                    on_end(job, state)
                    pause = POLL
                elif text := describe_change(seen.get(job.number), state, reason):
                    job.job.print(text)
                seen[job.number] = state, reason
    except KeyboardInterrupt:
        numbers = " ".join(job.number for job in waiting)
        print(f"the jobs continue; to end them: scancel {numbers}")
        raise SystemExit(130) from None


def describe_change(previous: tuple[str, str] | None, state: str, reason: str) -> str | None:
    """Describe a new state of a job that has not ended; None if it needs no message.

    `previous` is the state and reason at the last call; the reason of a running job is its nodes.
    """
    if previous == (state, reason):
        return None
    if state == "RUNNING":
        return f"runs on {reason}"
    if state == "PENDING" and previous and previous[0] != state:
        return "is queued again"
    return f"waits: {reason}" if state == "PENDING" and reason not in USUAL else None


def job_states(numbers: Sequence[str]) -> dict[str, tuple[str, str]] | None:
    """Ask Slurm for the state and reason of jobs; None if it does not reply.

    Jobs that Slurm has forgotten are missing.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%R"]
    command.append(f"--jobs={','.join(numbers)}")
    reply = subprocess.run(command, capture_output=True, text=True)
    if reply.returncode and "Invalid job id" not in reply.stderr:
        return None
    rows = (line.split("|", 2) for line in reply.stdout.splitlines())
    return {job: (state, reason.strip("()")) for job, state, reason in rows}
