"""The command line: arguments, errors and exit codes around Hydra."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.child_command import RUN_FOLDER, quiet_rank
from pipeline.cli.checks import CheckBeforeRun, note_failed_job
from pipeline.cli.help import help_text
from pipeline.config.checks.hydra_errors import explain, to_user_error
from pipeline.config.checks.validate import (
    check_arguments,
    flags_first,
    quote_paths,
)
from pipeline.config.hydra_compat import register_resolver
from pipeline.config.overlay import is_foreign
from pipeline.console import protect_streams
from pipeline.devices.device_count import device_count, must_launch_ranks
from pipeline.devices.launch_ranks import launch_ranks, run_rank
from pipeline.devices.process_exit import die_with_parent
from pipeline.devices.world import ALONE, World, find_world, shared_run_name
from pipeline.errors import BadArgument, CommandRefused, RunFailed, UserError
from pipeline.job_context import job_context, publish
from pipeline.run.slurm_requeue import hold_signals, requeue_if_interrupted, resume_if_restarted
from pipeline.run.unfinished_runs import is_sweep, resumed_arguments
from pipeline.sweep.job_names import setting_of, swept_keys
from pipeline.sweep.run_job import run_sweep_job

EXPECTED_ERRORS = (UserError, RunFailed, HydraException, OmegaConfBaseException)

# State of the last job, since Hydra does not return its value and prints errors in its own way.
_exit_code = 0
_refusal: Exception | None = None
_began = False  # True once Hydra has created the output folder and called the job


def command_line(job: Callable[[], None]) -> int:
    """Run the job with the arguments of this process, and return the exit code.

    It is 0 for completed, 1 for failed or bad input, 130 or 143 for interrupted.
    """
    logging.raiseExceptions = False  # a full disk is reported once, not for every line of the log
    full_error = job_context().full_error  # as set by the parent process
    if full_error is None:
        full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
        publish(replace(job_context(), full_error=full_error))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing its own message
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by run.py while it imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if job_context().ends_with_parent:
        die_with_parent()
        publish(
            replace(job_context(), ends_with_parent=False)
        )  # its own children decide for themselves
    protect_streams()
    hold_signals()
    world = ALONE
    try:
        world = find_world()
        note_foreign_conf(world)
        sys.argv[1:] = quote_paths(sys.argv[1:])
        check_arguments(sys.argv[1:])
        sys.argv[1:] = flags_first(sys.argv[1:])
        publish(replace(job_context(), swept=swept_keys(sys.argv[1:])))
        sys.argv[1:] = resumed_arguments(resume_if_restarted(sys.argv[1:]))
        sys.argv[1:] = arguments_of_rank(sys.argv[1:], world)
        job()
        if _refusal:
            raise _refusal
    except (Exception, CommandRefused) as raised:
        error = raised.error if isinstance(raised, CommandRefused) else raised
        # Before the job began, the user can correct an error of theirs; later it is a fault of the program.
        correctable = not _began and isinstance(to_user_error(error), UserError)
        if full_error or not (correctable or isinstance(error, EXPECTED_ERRORS)):
            raise error from error.__cause__
        if world.is_main:  # the other ranks have the same error
            print(explain(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted before the first step: there is no checkpoint", file=sys.stderr)
        return 130
    # The agent of a W&B sweep stops a run early with SIGTERM, but counts every code except 0 as a
    # failure and gives up after a few. The status of the run is still `interrupted`.
    stopped_by_agent = _exit_code == 143 and "WANDB_SWEEP_ID" in os.environ and world.size == 1
    return 0 if stopped_by_agent else _exit_code


def note_foreign_conf(world: World) -> None:
    """Print a line if the working folder's `conf/` is another program's, and so is left out."""
    is_child = job_context().name or job_context().is_rank or not world.is_main
    if not is_child and is_foreign(Path("conf")):
        note = "conf/ is left out: its config.yaml is another program's (no `- schema` in its defaults)"
        print(note, file=sys.stderr)


def run_job(composed: DictConfig) -> float | None:
    """Run a job of a sweep in a child process and return its objective, or a run in this process."""
    global _exit_code, _refusal, _began
    _began = True
    hydra = cast("DictConfig", HydraConfig.get())
    if hydra.mode == RunMode.MULTIRUN:
        run_sweep_job(composed, hydra)
        from pipeline.sweep.objective import objective  # not needed by commands that run nothing

        return objective(Path(hydra.runtime.output_dir))
    folder = Path(hydra.runtime.output_dir)
    try:
        _exit_code = run_here(hydra, folder)
    except EXPECTED_ERRORS as error:
        _refusal = error  # reported by `command_line`, without the lines that Hydra would add
        note_failed_job(folder, error)
    return None


def run_here(hydra: DictConfig, folder: Path) -> int:
    """Run with the checked config, in one process or several, and return the exit code."""
    world = find_world()
    config, composed = CheckBeforeRun.checked
    if must_launch_ranks(config, world):
        return launch_ranks(sys.argv[1:], folder, device_count(config, world))
    from pipeline.run.experiment import Job  # not needed by commands that run nothing
    from pipeline.run.runner import run

    context = job_context()
    if context.members:
        from pipeline.run.together.members import read_members
        from pipeline.run.together.vectorized import run_vectorized

        return run_vectorized(read_members(Path(context.members)), context.sweep, world)
    setting = setting_of(hydra.overrides.task) if context.setting is None else context.setting
    merged = composed if config.resume or config.checkpoint else None
    name = context.name or config.name or folder.name
    job = Job(folder, name, context.sweep, setting, merged, context.alone)
    work = partial(run, config, job, world)
    code = work() if world.size == 1 else run_rank(work, folder, world)
    return requeue_if_interrupted(code, folder, world)


def arguments_of_rank(arguments: list[str], world: World) -> list[str]:
    """Return the command line of one rank; refuse a sweep, and ranks that share no folder."""
    if world.size == 1:
        return arguments
    if is_sweep(arguments):
        problem = f"one process starts those of each job, and this command runs as {world.size}"
        hint = "Leave out what started them, or use hydra/launcher=slurm."
        raise BadArgument("-m", problem=problem, hint=hint)
    named = any(argument.startswith(("name=", RUN_FOLDER)) for argument in arguments)
    if world.launcher == "manual" and not named:
        problem = "processes started by hand need the same folder"
        raise UserError("name", None, problem=problem, hint="Add name=NAME to the command of each.")
    return arguments if world.is_main else [*arguments, *quiet_rank(world.rank)]


def folder_name(name: str | None, now: str) -> str:
    """Return the folder of a run or sweep below outputs/: its name, or the time.

    Ranks that a launcher started share the name of the launcher's job.
    """
    return name or shared_run_name() or now


register_resolver("folder_name", folder_name)
register_resolver("tandem_help", help_text)
