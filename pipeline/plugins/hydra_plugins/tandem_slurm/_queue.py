"""Slurm's queue, as `squeue` tells it: it is there on every cluster, accounting is not."""

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runs import RESULT, read_json, write_json
from pipeline.sweep import Work

JOB = "slurm.json"  # in the folder of a job: its number in the queue

GONE = "gone from the queue"  # which forgets a job some minutes after its end
OVER = {
    GONE, "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip

# Reasons to wait that pass by themselves; of others a person should know.
USUAL = {"None", "Priority", "Resources", "BeginTime", "JobArrayTaskLimit", "Dependency"}

SLURMS_OWN = ("srun: error:", "slurmstepd")  # how lines begin that are not the job's

POLL, LONGEST = 1.0, 15.0  # seconds between two questions, at first and later
LATE = 10.0  # seconds that a file system may take to show what another machine has written


@dataclass(frozen=True)
class Queued:
    """A job of a sweep in Slurm's queue.

    Args:
        work: that it does.
        job: its number there.
        tasks: that it is made of.
        log: of its first task, and of what Slurm says of them all.
    """

    work: Work
    job: str
    tasks: int
    log: Path

    def note(self) -> None:
        """Leave word of the job, for the next command."""
        facts = {"job": self.job, "tasks": self.tasks, "log": str(self.log)}
        write_json(self.work.folder / JOB, facts)

    def last_words(self) -> str:
        """What Slurm says first of an end that the job could not tell of itself."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        said = [line for line in lines if line.startswith(SLURMS_OWN)]
        return f"{said[0]} (in {self.log})" if said else f"see {self.log}"

    def result(self) -> dict[str, Any] | None:
        """What the job wrote of itself, if it did."""
        until = time.monotonic() + LATE
        while (result := read_json(self.work.folder / RESULT)) is None:
            if time.monotonic() > until:
                return None
            time.sleep(POLL)
        return result


def queued(work: Work) -> Queued | None:
    """The job that an earlier command has submitted for this work, if Slurm has not done it yet."""
    noted = read_json(work.folder / JOB)
    told = noted and states([noted["job"]])
    state, _ = (told or {}).get(noted and noted["job"], (GONE, ""))
    if state in OVER:
        return None
    work.tell(f"is job {noted['job']} of Slurm already")
    return Queued(work, noted["job"], noted["tasks"], Path(noted["log"]))


def wait(jobs: Iterable[Queued], ended: Callable[[Queued, str], None]) -> None:
    """Wait for jobs, however often they are requeued.

    Args:
        jobs: in the queue.
        ended: called with a job when it is over, and Slurm's word for how it ended.

    Raises:
        SystemExit: Ctrl-C; the jobs go on.
    """
    waiting, seen, pause = list(jobs), {}, POLL
    try:
        while waiting:
            time.sleep(pause)
            pause = min(LONGEST, pause * 1.1)
            told = states([job.job for job in waiting])
            for job in list(waiting) if told is not None else []:
                state, why = told.get(job.job, (GONE, ""))
                if state in OVER:
                    waiting.remove(job)
                    ended(job, state)
                    pause = POLL
                elif words := news(seen.get(job.job), state, why):
                    job.work.tell(words)
                seen[job.job] = state, why
    except KeyboardInterrupt:
        numbers = " ".join(job.job for job in waiting)
        print(f"the jobs go on; to end them: scancel {numbers}")
        raise SystemExit(130) from None


def news(seen: tuple[str, str] | None, state: str, why: str) -> str | None:
    """What is worth telling of a job that is not over.

    Args:
        seen: the state and reason that were told last.
        state: now.
        why: Slurm's reason for a state; where it runs, the nodes.
    """
    if seen == (state, why):
        return None
    if state == "RUNNING":
        return f"runs on {why}"
    if state == "PENDING" and seen and seen[0] != state:
        return "is queued again"
    return f"waits: {why}" if state == "PENDING" and why not in USUAL else None


def states(jobs: Sequence[str]) -> dict[str, tuple[str, str]] | None:
    """Slurm's words for the states of jobs, and its reasons; None where it does not answer.

    A job that it has forgotten is not among them.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%R"]
    asked = subprocess.run([*command, f"--jobs={','.join(jobs)}"], capture_output=True, text=True)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    rows = (line.split("|", 2) for line in asked.stdout.splitlines())
    return {job: (state, why.strip("()")) for job, state, why in rows}
