"""Command line of a process that runs one job."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.shipped import RUN

RUN_FOLDER = "hydra.run.dir="


def quoted(path: object) -> str:
    """Return a path quoted as a value of Hydra's grammar."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def run_command(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return the command of `run.py` with the given arguments, for one run in a folder."""
    kept = [argument for argument in arguments if not argument.startswith(RUN_FOLDER)]
    return [sys.executable, str(RUN), *kept, "hydra.mode=RUN", f"{RUN_FOLDER}{quoted(folder)}"]


def quiet_rank(rank: int) -> list[str]:
    """Return the arguments that keep a rank above 0 from writing the files of the run."""
    log = f"'${{hydra.runtime.output_dir}}/rank-{rank}.log'"
    return [
        "hydra.output_subdir=null",
        f"hydra.job_logging.handlers.file.filename={log}",
        "++hydra.job_logging.handlers.file.delay=true",  # no file unless there is a message
    ]
