"""A job that is ready to start: its data, devices and checkpoints to resume from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf
from rich.markup import escape

from pipeline.commands import command
from pipeline.config.experiment import Config, Mode, plain
from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.config.schedules import OwnScheduleConfig
from pipeline.console import print_and_log
from pipeline.data import sources
from pipeline.data.batch_plan import BatchPlan, make_batch_plan
from pipeline.data.data_spec import data_spec
from pipeline.devices.hardware import limit_threads
from pipeline.devices.world import World
from pipeline.loggers import RunLabels
from pipeline.loggers.callbacks import KEY as CALLBACKS
from pipeline.loggers.callbacks import Callbacks, load_callbacks
from pipeline.loggers.tracker import Tracker, open_tracker
from pipeline.run import backends
from pipeline.run.backends import Backend, Device
from pipeline.run.banner import announce, warn_of_fallback
from pipeline.run.experiment import Job
from pipeline.run.generation.record import SampleRecord
from pipeline.run.resume import is_complete
from pipeline.storage.checkpoints import (
    Checkpoint,
    candidates,
)
from pipeline.storage.run_folder import RunFolder
from pipeline.training import own_optimizer, own_schedule
from pipeline.training.intervals import make_intervals
from pipeline.training.model_checks import check_model, check_monitor
from pipeline.user_code import import_attribute


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
            resumed = self.resume[0].run if self.resume else None
            RunFolder(self.job.folder).identify(self.config, data_spec(self.plan.data), resumed)
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


def check_imports(config: Config, total: int) -> None:
    """Refuse a user's own optimizer, schedule or callback that is not there, or takes other arguments.

    None is called: it may use a device, and those are set up afterwards.
    """
    if isinstance(config.optimizer, OwnOptimizerConfig):
        factory = own_optimizer.import_factory(config.optimizer, config.backend.name)
        own_optimizer.arguments_of(factory, config.optimizer, config.backend.name)
    if isinstance(config.schedule, OwnScheduleConfig):
        function, path = own_schedule.import_function(config.schedule), config.schedule.function
        own_schedule.arguments_of(function, path or "", total, config.schedule.options)
    for path in config.callbacks:
        import_attribute(path, CALLBACKS)


def prepare(
    config: Config, job: Job, world: World, alike: Prepared | None = None
) -> Prepared | None:
    """Load the data and set up the devices; write nothing. Returns None if the run is complete.

    A run that trains at once with another has data and device of that one, `alike`.
    """
    data = alike.plan.data if alike else sources.load(config.dataset, config.task)
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
    if not alike:
        limit_threads(config.accelerator.threads, world)
    backend = alike.backend if alike else backends.load(config.backend.name)
    paths = config.callbacks if config.mode is Mode.train else []
    if config.mode is Mode.train and not resume:
        check_imports(config, total)
    device = alike.device if alike else backend.prepare(config, world)
    callbacks = load_callbacks(paths, config.backend.name)
    samples = SampleRecord(config, plan, backend, device, job.folder)
    if data.task.samples and data.task.samples_at_evaluations:
        added = [*callbacks.neutral, ("task.samples", samples)]
        callbacks = replace(callbacks, neutral=added)
    if world.is_main and not alike:
        announce(config, str(job.folder), device.description)
        warn_of_fallback(device.fallback)
    return Prepared(config, job, world, plan, backend, device, resume, total, callbacks, samples)
