"""A run that has been prepared: its recorder, and its way from the start to a result."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.commands import command
from pipeline.config.experiment import Config, Mode, plain
from pipeline.devices.hardware import hardware
from pipeline.devices.stop_signals import StopSignal
from pipeline.errors import Interrupted
from pipeline.loggers.progress import Progress
from pipeline.loggers.tracker import Tracker
from pipeline.run.banner import to_run_error
from pipeline.run.continuation import carry_history
from pipeline.run.experiment import Experiment, Job
from pipeline.run.prepared import Prepared
from pipeline.run.preview_inputs import InputPreview
from pipeline.run.recording.kernels import forget_kernels
from pipeline.run.recording.recorder import Recorder
from pipeline.run.recording.stopwatch import Stopwatch
from pipeline.run.start.initial_values import backend_of_values
from pipeline.run.start.pair_names import provide_names
from pipeline.run.start.pretrained import weights_of
from pipeline.run.transfer import export_to_resume, make_initial, on_all_ranks
from pipeline.storage.checkpoints import check_run_folder, deleted_folder, run_of
from pipeline.storage.names_path import is_auto
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import PortableState
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import signature

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """End of a run; `has_started` is true if files of the run were changed."""

    result: RunResult
    exit_code: int = 1
    failure: Exception | None = None
    has_started: bool = False


@dataclass(frozen=True)
class StartedRun:
    """A run before its first step.

    `result` is what is known of its result so far. `opens` is true if its loggers are to open before a
    checkpoint is read; `resumed_step` is the step of the checkpoint to resume from, if any.
    """

    prepared: Prepared
    experiment: Experiment
    result: RunResult
    opens: bool
    resumed_step: int | None

    def open(self) -> None:
        """Open the loggers, unless a checkpoint must be read first: an existing run stays unchanged."""
        if self.opens:
            self.experiment.recorder.start(self.resumed_step)

    def leave(self) -> None:
        """Close the loggers of a run that goes on in another way; it has no result yet."""
        recorder = self.experiment.recorder
        if recorder.has_started:
            recorder.tracker.finish(1, {})

    def conclude(
        self,
        work: Callable[[Experiment, Prepared, RunResult], RunResult],
        tell: Callable[[str], None] = log.warning,
    ) -> Ending:
        """Do the work of the run, which completes its result, and close the loggers.

        `tell` prints how to resume a run that was interrupted.
        """
        config, job, recorder = self.prepared.config, self.prepared.job, self.experiment.recorder
        result, exit_code, failure = self.result, 1, None
        try:
            self.open()
            result = work(self.experiment, self.prepared, result)
            check_run_folder(job.folder)
            exit_code = 0
        except Interrupted as interrupted:
            exit_code, name = interrupted.exit_code, recorder.stop_signal.name
            result = replace(result, status="interrupted", interrupted_by=name)
            if self.prepared.world.is_main:
                hint = f"{interrupted}; resume with: {command('run')} resume={job.folder}"
                tell("interrupted" if config.mode is Mode.look else hint)
        except Exception as error:
            failure = to_run_error(error, job.folder)
            if deleted := deleted_folder(job.folder):  # the cause of any other error
                deleted.__cause__, failure = failure, deleted
            result = replace(result, status="failed", error=str(failure))
        result = recorder.complete(result)
        if recorder.has_started:
            best = result.best or recorder.best
            recorder.tracker.finish(exit_code, replace(result, best=best).summary)
        return Ending(result, exit_code, failure, recorder.has_started)


def begin(
    prepared: Prepared,
    stopwatch: Stopwatch,
    is_new: bool,
    stop_signal: StopSignal,
    progress: Progress,
) -> StartedRun:
    """Write the identity of a run, find the values to start from, and make its recorder.

    `is_new` is true if the folder holds no run yet.
    """
    config, job, device, resume = prepared.config, prepared.job, prepared.device, prepared.resume
    result = replace(
        initial_result(config, job),
        versions=prepared.backend.versions(),
        devices=device.description,
        device_count=device.devices,
        fallback=device.fallback or None,
    )
    is_elsewhere = bool(resume) and resume[0].run.resolve() != job.folder.resolve()
    starts_now = is_new or is_elsewhere
    provide_names_of(prepared)
    if starts_now:
        prepared.write_identity()
    imported: Sequence[PortableCheckpoint] = []
    resumed_step = resume[0].step if resume else None
    if resume and resume[0].backend != config.backend.name:
        imported = export_to_resume(resume, config, job.folder, device, prepared.world)
        resumed_step = imported[-1].state.step
    if resumed_step is not None and is_elsewhere:
        result = replace(result, resumed_from=str(resume[0].path))
        if prepared.world.is_main:
            carry_history(resume[0].run, job.folder, resumed_step, config.logger)

    starts_fresh = config.mode is Mode.train and not resume
    initial = made_by_other_backend(prepared) if starts_fresh else None
    export = partial(on_all_ranks, folder=job.folder, device=device, world=prepared.world)
    weights = weights_of(config, export) if starts_fresh else None

    forget_kernels()  # of an earlier run in this process

    def start(step: int | None) -> Tracker:
        if not starts_now:
            prepared.write_identity()
        return prepared.open_tracker(step)

    recorder = Recorder(
        config,
        prepared.plan.data,
        open_tracker=start,
        progress=progress,
        stop_signal=stop_signal,
        observer=InputPreview(config, prepared.plan) if config.mode is Mode.look else None,
        stopwatch=stopwatch,
        callbacks=prepared.callbacks,
    )
    experiment = Experiment(
        config, prepared.plan, recorder, job.folder, resume, imported, initial, weights
    )
    return StartedRun(prepared, experiment, result, starts_now, resumed_step)


def made_by_other_backend(prepared: Prepared) -> PortableState | None:
    """Return the values at step 0 of a pair's other model, if this backend takes them."""
    config, job = prepared.config, prepared.job
    if (other := backend_of_values(config)) is None:
        return None
    make = partial(make_initial, config, prepared.plan.data, other, job.folder)
    [made] = on_all_ranks(make, job.folder, prepared.device, prepared.world)
    return made.state


def provide_names_of(prepared: Prepared) -> None:
    """Put the names of `model.names=auto` into the folder: the first process does, the others wait."""
    config = prepared.config
    if not is_auto(config.model):
        return
    origin = config.resume or config.checkpoint
    if prepared.world.is_main:
        source = (
            run_of(Path(origin), "resume" if config.resume else "checkpoint") if origin else None
        )
        provide_names(config, lambda: prepared.plan.data, prepared.job.folder, source)
    prepared.device.wait_for_all()


def initial_result(config: Config, job: Job) -> RunResult:
    """Return the result of a run that has not started."""
    return RunResult(
        status="failed",
        signature=signature(config),
        name=job.name,
        backend=config.backend.name,
        config=plain(config),
        hardware=hardware(),
        alone=job.alone,
    )
