"""The command line: what happens before and after Hydra, and how errors are told."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.arguments import RUN_FOLDER, quiet_rank
from pipeline.config import Config, Mode, typed
from pipeline.errors import BadArgument, RunFailed, UserError
from pipeline.explain import explain, in_our_words
from pipeline.help import help_text
from pipeline.job_names import GROUP, NAME, SETTING, SWEPT, setting_of, swept_keys
from pipeline.precheck import BadSweep, check_arguments, checked
from pipeline.ranks import run_rank, supervise
from pipeline.requeue import going_on, hold_signals, last_word
from pipeline.runs import write_json
from pipeline.saved import check_resumable, given, is_sweep, resumed_arguments, with_saved_config
from pipeline.sharing import check_sharing, device_count, needs_processes
from pipeline.sweep import run_child
from pipeline.world import ALONE, World, common_name, find_world

EXPECTED_ERRORS = (UserError, RunFailed, HydraException, OmegaConfBaseException)

FULL_ERROR = "TANDEM_FULL_ERROR"  # what HYDRA_FULL_ERROR was, for this process and its children

# Of the last job; Hydra does not hand a job's return value back, and tells an error in its own way.
_exit_code = 0
_refusal: Exception | None = None
_began = False  # whether Hydra has made the output folder and called the job


def command_line(job: Callable[[], None]) -> int:
    """Run the decorated job with the arguments of this process.

    Returns:
        The exit code: 0 done, 1 failed or bad input, 130 or 143 interrupted.
    """
    logging.raiseExceptions = False  # a full disk is told once, not for every line of the log
    asked = os.environ.get("HYDRA_FULL_ERROR", "0")
    full_error = os.environ.setdefault(FULL_ERROR, asked) == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing its own message
    hold_signals()
    world = ALONE
    try:
        world = find_world()
        check_arguments(sys.argv[1:])
        os.environ[SWEPT] = ",".join(swept_keys(sys.argv[1:]))
        sys.argv[1:] = resumed_arguments(going_on(sys.argv[1:]))
        sys.argv[1:] = arguments_of_rank(sys.argv[1:], world)
        job()
        if _refusal:
            raise _refusal
    except BrokenPipeError:  # the reader has had enough, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (*EXPECTED_ERRORS, OSError, BadSweep) as raised:
        error = raised.error if isinstance(raised, BadSweep) else raised
        if full_error or (isinstance(error, OSError) and _began):
            raise error from raised.__cause__
        if world.first:  # what is bad for one process of several is bad for all
            print(explain(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted before the first step: nothing to go on from", file=sys.stderr)
        return 130
    return _exit_code if world.size > 1 else for_agent(_exit_code)


def for_agent(code: int, environment: Mapping[str, str] = os.environ) -> int:
    """The exit code as the agent of a W&B sweep, if there is one, should take it.

    It ends a run by SIGTERM when the sweep stops it early, but takes any code except 0 for a failure,
    and gives up after a few. The run's result says `interrupted` all the same.
    """
    return 0 if code == 143 and "WANDB_SWEEP_ID" in environment else code


def run_job(composed: DictConfig) -> float | None:
    """One job of a sweep in a child process, or a run in this one.

    Returns:
        What a sweeper is told of a job: how good it was.
    """
    global _exit_code, _refusal, _began
    _began = True
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        run_child(composed, hydra)
        from pipeline.objective import objective  # which the parts before a run do not need

        return objective(Path(hydra.runtime.output_dir))
    folder = Path(hydra.runtime.output_dir)
    try:
        _exit_code = run_here(composed, hydra, folder)
    except EXPECTED_ERRORS as error:
        _refusal = error  # told by `command_line`: Hydra would add lines of its own
        told = (folder / "result.json").exists() or not find_world().first
        if NAME in os.environ and not told:
            refused = {"name": os.environ[NAME], "status": "failed"}
            write_json(folder / "result.json", refused | {"error": str(in_our_words(error))})
    return None


def run_here(composed: DictConfig, hydra: DictConfig, folder: Path) -> int:
    """Check the config, that of the run to go on from included, then run."""
    world = find_world()
    config = checked(composed)
    path = config.resume or config.checkpoint
    if path:
        merged = with_saved_config(composed, Path(path), given(hydra.overrides.task))
        config = typed(merged)
        check_resumable(config)
        if world.first:
            OmegaConf.save(merged, folder / hydra.output_subdir / "config.yaml")
    check_mode(config)
    check_sharing(config, world)
    if needs_processes(config, world):
        return supervise(sys.argv[1:], folder, device_count(config, world))
    from pipeline.experiment import Job, run  # after the config is known to be good

    name = os.environ.get(NAME) or config.name or folder.name
    setting = os.environ.get(SETTING, setting_of(hydra.overrides.task))
    job = Job(folder, name, os.environ.get(GROUP), setting)
    work = partial(run, config, job, world)
    code = work() if world.size == 1 else run_rank(work, folder, world)
    return last_word(code, folder, world)


def arguments_of_rank(arguments: list[str], world: World) -> list[str]:
    """The command line as one process of several takes it.

    Raises:
        UserError: it is a sweep, or the processes have no folder in common.
    """
    if world.size == 1:
        return arguments
    if is_sweep(arguments):
        raise BadArgument(
            "-m",
            f"given to one process, which starts those of each job, and not to {world.size}",
            "Leave out what started them, or use hydra/launcher=slurm.",
        )
    if world.origin == "hand" and not any(
        argument.startswith(("name=", RUN_FOLDER)) for argument in arguments
    ):
        raise UserError(
            "name",
            None,
            "given where processes are started by hand: all of them need the same folder",
            "Add name=NAME to the command of each.",
        )
    return arguments if world.first else [*arguments, *quiet_rank(world.rank)]


def check_mode(config: Config) -> None:
    """Refuse `mode=test` without a checkpoint, a checkpoint without it, and a dry run of one job."""
    if config.sweep.dry_run:
        raise UserError(
            "sweep.dry_run", "true", "left out without -m", "--cfg=job shows what a run is made of."
        )
    if config.mode is Mode.test and not config.checkpoint:
        raise UserError(
            "checkpoint", None, "a run or a checkpoint when mode=test", "Set checkpoint=PATH."
        )
    if config.mode is not Mode.test and config.checkpoint:
        raise UserError(
            "checkpoint",
            config.checkpoint,
            f"left out when mode={config.mode.name}",
            "Set mode=test to evaluate it, or resume=PATH to go on training from it.",
        )


def folder_name(name: str | None, now: str) -> str:
    """The folder of a run or sweep below outputs/: its name, or the time.

    Processes that somebody else started need one that they all know.
    """
    return name or common_name() or now


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("tandem_help", help_text, replace=True)
