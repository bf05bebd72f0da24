"""Runs of experiments, each in a process of its own, as the command line starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pipeline.child_command import run_command
from pipeline.errors import RunFailed
from pipeline.job_context import job_context
from pipeline.run.unfinished_runs import OUTPUTS, named_folder, resumed_arguments
from tandem.experiment import Experiment, compose
from tandem.finished import Run, load

INTERRUPTED = (130, 143)  # exit codes


def run(experiment: Experiment | str, *overrides: str, quiet: bool = False) -> Run:
    """Train and test an experiment in the working folder; return its run, or its interrupted part.

    Args:
        experiment: as `compose` returns it, or the first of its overrides.
        overrides: further ones.
        quiet: print nothing.

    Raises:
        UserError: an override is bad.
        RunFailed: the run has failed; the message is its own.
        KeyboardInterrupt: it was interrupted, and has saved a checkpoint to go on from.
    """
    known = experiment.overrides if isinstance(experiment, Experiment) else (experiment,)
    arguments = resumed_arguments([*compose(*known, *overrides).overrides])
    folder = folder_of(arguments)
    code, lines = follow(run_command(arguments, folder), quiet)
    if code not in (0, *INTERRUPTED):
        raise RunFailed(error_in(lines) or f"{folder} ended with exit code {code}")
    return load(folder)


def folder_of(arguments: Sequence[str]) -> Path:
    """Return the folder in which a run will be: as the config says, by name or time."""
    return named_folder(arguments) or OUTPUTS / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"


def follow(command: Sequence[str], quiet: bool) -> tuple[int, list[str]]:
    """Run a command to its end; return its exit code and its output, which is also printed."""
    context = replace(job_context(), by_tandem=True, ends_with_parent=True, full_error=False)
    search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    environment = os.environ | context.variables() | {"PYTHONPATH": search}
    environment.setdefault("TANDEM_PROGRESS", "plain")
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it once, from here
    )
    lines = []
    with process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if not quiet:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            print(*(process.stdout or ()), sep="", end="", flush=True)  # until it has saved
            raise
    return process.returncode, lines


def error_in(lines: Sequence[str]) -> str:
    """Return the error that a command has printed last, without the line on how to see more."""
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if not starts:
        return "".join(lines[-1:]).strip()
    shown = [line for line in lines[starts[-1] :] if "HYDRA_FULL_ERROR=1" not in line]
    return "".join(shown).removeprefix("error: ").strip()
