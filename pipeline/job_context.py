"""`TANDEM_JOB`: context that a process of Tandem passes to its child processes."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

VARIABLE = "TANDEM_JOB"


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """Role of a process in a sweep or in a run of several processes."""

    name: str | None = None  # of the job; None outside a sweep
    sweep: str | None = None  # name of the sweep
    setting: str | None = (
        None  # overrides that differ between its jobs, without backend, seed and fold
    )
    swept: Sequence[str] = ()  # keys that differ between its jobs
    sweep_pid: int | None = None  # process id of the sweep, for the workers of joblib
    alone: str | None = (
        None  # why the job does not train at once with others, if that was asked for
    )
    members: str | None = None  # file of the jobs that train at once in this process
    is_rank: bool = False  # true if the parent process reports the error of this one
    launch: str | None = None  # name of one start of several ranks, by the parent process
    by_tandem: bool = False  # started by the command `tandem`, whose commands messages then name
    ends_with_parent: bool = False  # the process asks the kernel for SIGTERM when its parent dies
    full_error: bool | None = None  # whether errors have their traceback; None: not decided yet

    def to_json(self) -> str:
        """Return the text for the environment."""
        return json.dumps(asdict(self))

    def variables(self) -> dict[str, str]:
        """Return the environment variable for a child process."""
        return {VARIABLE: self.to_json()}


def job_context() -> JobContext:
    """Read the context of this process."""
    return JobContext(**json.loads(os.environ.get(VARIABLE, "{}")))


def publish(context: JobContext) -> None:
    """Set the context of this process and of its future child processes."""
    os.environ.update(context.variables())
