"""Runner: one job from its config to its result, on either backend."""

from contextlib import nullcontext, suppress
from dataclasses import replace

from pipeline.config.experiment import Config
from pipeline.devices.stop_signals import StopSignal
from pipeline.devices.world import ALONE, World
from pipeline.loggers.progress import NoProgress, Progress
from pipeline.run.banner import announce_result, to_run_error
from pipeline.run.experiment import Job
from pipeline.run.modes import MODES
from pipeline.run.prepared import Prepared, prepare
from pipeline.run.recording.stopwatch import Stopwatch
from pipeline.run.resume import check_folder_is_free
from pipeline.run.started import Ending, begin, initial_result
from pipeline.storage.run_folder import RunFolder


def run(config: Config, job: Job, world: World = ALONE) -> int:
    """Run one job: train and test, only test, or preview the inputs; write `result.json`.

    All ranks call this; only the first writes. A command that is refused before its first step changes
    nothing in the folder of an existing run. An error is also written to the result, if the run is new or has
    changed files.

    Returns:
        The exit code: 0 done, 130 or 143 interrupted.
    """
    stopwatch, folder = Stopwatch(), RunFolder(job.folder)
    if world.is_main:
        check_folder_is_free(config, job.folder)
    is_new = folder.identity is None
    try:
        prepared = prepare(config, job, world)
        if prepared is None:
            return 0
        ending = execute(prepared, stopwatch, is_new)
    except Exception as error:
        ending = refused(config, job, stopwatch, error)
    if world.is_main:
        write_ending(ending, job, is_new)
    if ending.failure:
        raise ending.failure
    if world.is_main:
        announce_result(ending.result, str(job.folder))
    return ending.exit_code


def execute(prepared: Prepared, stopwatch: Stopwatch, is_new: bool) -> Ending:
    """Train and test, only test, or preview the inputs, and close the loggers.

    `is_new` is true if the folder holds no run yet. An existing run is left unchanged until a matching
    checkpoint has been read, or training starts.
    """
    config, is_main, stop_signal = prepared.config, prepared.world.is_main, StopSignal()
    progress = Progress(prepared.total, config.backend.name) if is_main else NoProgress()
    run = begin(prepared, stopwatch, is_new, stop_signal, progress)
    with stop_signal, progress:
        return run.conclude(MODES[config.mode])


def refused(config: Config, job: Job, stopwatch: Stopwatch, error: Exception) -> Ending:
    """Return the ending of a run that an error ended before its start."""
    failure = to_run_error(error, job.folder)
    result = replace(initial_result(config, job), error=str(failure))
    return Ending(replace(result, seconds={"total": stopwatch.part}), failure=failure)


def write_ending(ending: Ending, job: Job, is_new: bool) -> None:
    """Write the result of a run, unless it has changed nothing in the folder of an existing one."""
    if is_new or ending.has_started:
        # A full disk is reported already.
        with suppress(OSError) if ending.failure else nullcontext():
            RunFolder(job.folder).write_result(ending.result)
