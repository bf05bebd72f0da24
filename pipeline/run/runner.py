"""Runner: one job from its config to its result, on either backend."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf
from rich.markup import escape

from pipeline.commands import command
from pipeline.config.experiment import Config, Mode, plain
from pipeline.console import print_and_log, say_line
from pipeline.data import sources
from pipeline.data.batch_plan import BatchPlan, make_batch_plan
from pipeline.data.data_spec import data_spec
from pipeline.devices.hardware import hardware, limit_threads
from pipeline.devices.stop_signals import StopSignal
from pipeline.devices.world import ALONE, World
from pipeline.errors import Interrupted
from pipeline.loggers import RunLabels
from pipeline.loggers.callbacks import Callbacks, load_callbacks
from pipeline.loggers.progress import NoProgress, Progress
from pipeline.loggers.tracker import Tracker, open_tracker
from pipeline.run import backends
from pipeline.run.backends import Backend, Device
from pipeline.run.banner import announce, announce_result, to_run_error
from pipeline.run.experiment import Experiment, Job
from pipeline.run.generation.record import SampleRecord
from pipeline.run.preview_inputs import InputPreview, preview_inputs
from pipeline.run.recorder import Recorder
from pipeline.run.resume import check_folder_is_free, is_complete
from pipeline.run.start.initial_values import backend_of_values
from pipeline.run.start.pair_names import provide_names
from pipeline.run.start.pretrained import weights_of
from pipeline.run.stopwatch import Stopwatch
from pipeline.run.transfer import (
    export_tested,
    export_with_history,
    make_initial,
    on_all_ranks,
)
from pipeline.storage.checkpoints import (
    Checkpoint,
    candidates,
    check_run_folder,
    checkpoint_of_step,
    checkpoints_of,
    choose_tested,
    deleted_folder,
    run_of,
)
from pipeline.storage.names_path import is_auto
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.predictions import predictions_of
from pipeline.storage.recorder_state import Best
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import signature
from pipeline.training.intervals import make_intervals
from pipeline.training.model_checks import check_model, check_monitor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A run of `total` steps that has passed all checks that read no checkpoint.

    `resume` are the checkpoints to try to resume from, best choice first. `callbacks` are the user's own;
    none unless it trains.
    """

    config: Config
    job: Job
    world: World
    plan: BatchPlan
    backend: Backend
    device: Device
    resume: Sequence[Checkpoint]
    total: int
    callbacks: Callbacks
    samples: SampleRecord

    def write_identity(self) -> None:
        """Write `run.json`, and remove the result of an earlier run in the folder."""
        if self.world.is_main:
            RunFolder(self.job.folder).identify(self.config, data_spec(self.plan.data))
            if self.job.merged is not None:
                composed = self.job.folder / ".hydra/config.yaml"
                composed.parent.mkdir(exist_ok=True)
                OmegaConf.save(self.job.merged, composed)

    def open_tracker(self, step: int | None) -> Tracker:
        """Open the loggers; see `Recorder`."""
        if not self.world.is_main:
            return Tracker()
        labels = RunLabels(
            group=self.job.group,
            job=self.job.name,
            run_id=RunFolder(self.job.folder).wandb_id(),
            tags=tuple(self.config.tags),
            config=plain(self.config),
            setting=self.job.setting,
        )
        return open_tracker(self.config, self.job.folder, labels, step)


@dataclass(frozen=True)
class Ending:
    """End of a run; `has_started` is true if files of the run were changed."""

    result: RunResult
    exit_code: int = 1
    failure: Exception | None = None
    has_started: bool = False


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
        failure = to_run_error(error, job.folder)
        refused = replace(initial_result(config, job), error=str(failure))
        ending = Ending(replace(refused, seconds={"total": stopwatch.part}), failure=failure)
    if world.is_main and (is_new or ending.has_started):
        # A full disk is reported already.
        with suppress(OSError) if ending.failure else nullcontext():
            folder.write_result(ending.result)
    if ending.failure:
        raise ending.failure
    if world.is_main:
        announce_result(ending.result, str(job.folder))
    return ending.exit_code


def initial_result(config: Config, job: Job) -> RunResult:
    """Return the result of a run that has not started."""
    return RunResult(
        status="failed",
        signature=signature(config),
        name=job.name,
        backend=config.backend.name,
        config=plain(config),
        hardware=hardware(),
    )


def prepare(config: Config, job: Job, world: World) -> Prepared | None:
    """Load the data and set up the devices; write nothing. Returns None if the run is complete."""
    data = sources.load(config.dataset, config.task)
    check_model(config, data)
    check_monitor(config, data)
    plan = make_batch_plan(config, data)
    total = make_intervals(config.train, len(data.train)).total
    resume = candidates(Path(config.resume), "resume") if config.resume else []
    if resume and is_complete(config, job.folder, resume[0], total):
        if world.is_main:
            text = (
                f"{job.folder} is completed at step {resume[0].step}: nothing left to train. "
                f"To test it again: {command('run')} mode=test checkpoint={job.folder}"
            )
            print_and_log(escape(text), soft_wrap=True)
        return None
    limit_threads(config.accelerator.threads, world)
    backend = backends.load(config.backend.name)
    device = backend.prepare(config, world)
    paths = config.callbacks if config.mode is Mode.train else []
    callbacks = load_callbacks(paths, config.backend.name)
    samples = SampleRecord(config, plan, backend, device, job.folder)
    if data.task.samples and data.task.samples_at_evaluations:
        added = [*callbacks.neutral, ("task.samples", samples)]
        callbacks = replace(callbacks, neutral=added)
    if world.is_main:
        announce(config, str(job.folder), device.description)
    return Prepared(config, job, world, plan, backend, device, resume, total, callbacks, samples)


def execute(prepared: Prepared, stopwatch: Stopwatch, is_new: bool) -> Ending:
    """Train and test, only test, or preview the inputs, and close the loggers.

    `is_new` is true if the folder holds no run yet. An existing run is left unchanged until a matching
    checkpoint has been read, or training starts.
    """
    config, job, device, resume = prepared.config, prepared.job, prepared.device, prepared.resume
    result = replace(
        initial_result(config, job),
        versions=prepared.backend.versions(),
        devices=device.description,
        device_count=device.devices,
    )
    is_of_other_backend = bool(resume) and resume[0].backend != config.backend.name
    starts_now = is_new or is_of_other_backend
    _provide_names(prepared)
    if starts_now:
        prepared.write_identity()
    imported: list[PortableCheckpoint] = []
    resumed_step = resume[0].step if resume else None
    if is_of_other_backend:
        result = replace(result, resumed_from=str(resume[0].path))
        imported = export_with_history(resume, config, job.folder, device, prepared.world)
        resumed_step = imported[-1].state.step

    initial = None
    if config.mode is Mode.train and not resume and (other := backend_of_values(config)):
        make = partial(make_initial, config, prepared.plan.data, other, job.folder)
        [made] = on_all_ranks(make, job.folder, device, prepared.world)
        initial = made.state
    weights = weights_of(config) if config.mode is Mode.train and not resume else None

    def start(step: int | None) -> Tracker:
        if not starts_now:
            prepared.write_identity()
        return prepared.open_tracker(step)

    is_main = prepared.world.is_main
    progress = Progress(prepared.total, config.backend.name) if is_main else NoProgress()
    with StopSignal() as stop_signal, progress:
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
        exit_code, failure = 1, None
        try:
            if starts_now:
                recorder.start(resumed_step)
            result = ACTIONS[config.mode](experiment, prepared, result)
            check_run_folder(job.folder)
            exit_code = 0
        except Interrupted as interrupted:
            exit_code = interrupted.exit_code
            result = replace(result, status="interrupted", interrupted_by=stop_signal.name)
            if is_main:
                hint = f"{interrupted}; resume with: {command('run')} resume={job.folder}"
                log.warning("interrupted" if config.mode is Mode.look else hint)
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


def _provide_names(prepared: Prepared) -> None:
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


def train_and_test(experiment: Experiment, prepared: Prepared, result: RunResult) -> RunResult:
    """Train, then test the best checkpoint; without an evaluation, the last one."""
    recorder = experiment.recorder
    prepared.backend.train(experiment, prepared.device)
    prepared.device.wait_for_all()  # until the first rank has written the last checkpoint
    best = recorder.best or Best(None, None, recorder.step)
    checkpoint = checkpoint_of_step(experiment.folder, best.step)
    if checkpoint is None:  # deleted since
        checkpoint = checkpoints_of(experiment.folder)[0]
        recorder.progress.message(f"the best checkpoint is gone; testing {checkpoint.path}")
    result = replace(result, best=replace(best, checkpoint=str(checkpoint.path)))
    return test(experiment, prepared, result, checkpoint, checkpoint.step)


def test_only(experiment: Experiment, prepared: Prepared, result: RunResult) -> RunResult:
    """Test the checkpoint that `checkpoint=` names, and print why; one of another backend is exported."""
    asked, folder = Path(str(experiment.config.checkpoint)), experiment.folder
    if candidates(asked, "checkpoint")[0].backend == experiment.config.backend.name:
        chosen, why = choose_tested(asked, "checkpoint", prepared.backend.read_best)
        path, step = chosen.path, chosen.step
    else:
        export = partial(export_tested, asked, "checkpoint", folder)
        [chosen] = on_all_ranks(export, folder, prepared.device, prepared.world)
        why, path, step = chosen.run["chosen"], chosen.source, chosen.state.step
    if prepared.world.is_main:
        say_line(f"testing {path} ({why})")
    experiment.recorder.stopwatch.end_setup()
    return test(experiment, prepared, result, chosen, step)


def test(
    experiment: Experiment,
    prepared: Prepared,
    result: RunResult,
    checkpoint: Checkpoint | PortableCheckpoint,
    step: int,
) -> RunResult:
    """Test a checkpoint of a step; write the predictions of a classifier, or samples of a model."""
    recorder, data = experiment.recorder, experiment.plan.data
    recorder.pause()
    tested = prepared.backend.test(experiment, prepared.device, checkpoint)
    recorder.resume("eval")
    metrics = recorder.record_test(step, tested.sums)
    if tested.rows is not None and prepared.world.is_main:
        samples, labels = data.test.fields[data.inputs[0]], data.test.arrays["label"]
        predictions = predictions_of(samples, labels, tested.rows, data.classes)
        predictions.write(experiment.folder)
    if tested.weights and prepared.world.is_main:
        tracker = recorder.tracker
        last = max(step, recorder.step)
        prepared.samples(last, tracker.last, lambda: dict(tested.weights), tracker)
    return replace(result, status="completed", test=metrics)


def preview(experiment: Experiment, prepared: Prepared, result: RunResult) -> RunResult:
    """Draw the inputs of the first steps."""
    picture = preview_inputs(prepared.backend, experiment, prepared.device)
    return replace(result, status="completed", look=str(picture))


ACTIONS = {Mode.train: train_and_test, Mode.test: test_only, Mode.look: preview}
