"""The training loop: Lightning's Trainer, and a callback for what happens around a step."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from lightning_impl.checkpoints import BestCheckpoint, Checkpoints
from lightning_impl.data import EvalBatches, TrainBatches
from lightning_impl.device import Device
from lightning_impl.observing import start_of, trace
from lightning_impl.profiling import Profiler
from lightning_impl.sharding import sharing
from lightning_impl.state import parameters_of
from lightning_impl.step import TrainingModule
from pipeline.checkpoints import FOLDER, Checkpoint
from pipeline.datasets import Task
from pipeline.experiment import Experiment
from pipeline.portable import digest


def train(
    experiment: Experiment, device: Device, module: TrainingModule, resume: Checkpoint | None
) -> None:
    """Run Lightning's Trainer to the end of the timetable.

    Args:
        experiment: what to train.
        device: where.
        module: with its weights at step 0.
        resume: the checkpoint to go on from.

    Raises:
        Interrupted: somebody asked to stop, and the state is saved.
        Diverged: the loss is no number.
    """
    plan, recorder, config = experiment.plan, experiment.recorder, experiment.config.train
    if recorder.stopped_early:
        return  # the run that was to go on had come to its end
    folder = str(experiment.folder / FOLDER)
    last = Checkpoints(folder, recorder)
    trainer = trainer_on(
        device,
        module,
        max_steps=recorder.timetable.total,
        max_epochs=-1,
        accumulate_grad_batches=config.accumulate,
        # In batches, counted over epochs: an evaluation may fall inside one.
        val_check_interval=recorder.timetable.eval_every * config.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[Recording(experiment, device, last), BestCheckpoint(folder, recorder), last],
    )
    batches = TrainBatches(plan, device, config.accumulate, lambda: trainer.global_step)
    if recorder.step == 0:
        weights = parameters_of(module.model)
        recorder.describe(
            parameters=sum(weight.size for weight in weights.values()),
            init_digest=digest(weights),
            data_digest=batches.digest(),
        )
    trainer.fit(
        module,
        train_dataloaders=batches,
        val_dataloaders=EvalBatches(plan.data.val, plan, device, config.eval_batch),
        ckpt_path=str(resume.path) if resume else None,
    )


def evaluate(
    experiment: Experiment, device: Device, module: TrainingModule
) -> tuple[Mapping[str, float], np.ndarray | None]:
    """Sums over the test set of the module's weights, and what they say of each of its samples."""
    plan, config = experiment.plan, experiment.config.train
    batches = EvalBatches(plan.data.test, plan, device, config.eval_batch)
    trainer_on(device, module).test(module, dataloaders=batches, verbose=False)
    sums, said = module.evaluation_sums(), None
    if plan.data.task is Task.classification:
        said = device.read([batches.in_order(torch.cat(module.said))])[0]
    return sums, said


class Recording(Callback):
    """Hands each step's values to the recorder, and stops where it says so.

    Only here: Lightning calls back, where the Flax loop calls the recorder itself.

    Args:
        experiment: whose recorder it is.
        device: that the values are read from.
        last: keeps the state when the run is asked to stop.
    """

    def __init__(self, experiment: Experiment, device: Device, last: Checkpoints) -> None:
        self.recorder, self.device, self.last = experiment.recorder, device, last
        self.timetable = experiment.recorder.timetable
        profiled = experiment.config.train.profile if device.world.first else None
        self.profiler = Profiler(experiment.folder, profiled)

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Start the clock."""
        module.heed_config()
        if self.recorder.observer.watching:
            self.recorder.observer.stepped(start_of(module))
        self.recorder.begin(trainer.global_step, self.device)

    def on_train_batch_end(self, trainer: Trainer, module: TrainingModule, *args: Any) -> None:
        """After each update: keep its values; end the run at its last step."""
        step = trainer.global_step
        if step == self.recorder.step:
            return  # a part of a batch: no update yet
        values = module.step_values()
        self.recorder.stepped(step, values)
        if self.recorder.observer.watching:
            self.recorder.observer.stepped(trace(module, values))
        self.profiler.stepped(1)
        if self.timetable.evaluates(step):
            # Lightning evaluates once more when it is told to stop, also off the regular beat.
            trainer.should_stop = step == self.timetable.total
        else:
            self.last.stop_if_asked(trainer)

    def on_validation_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Start to count the time of the evaluation."""
        self.recorder.pause()

    def on_validation_epoch_end(self, trainer: Trainer, module: TrainingModule) -> None:
        """Judge the evaluation, before the checkpoint callbacks come."""
        self.recorder.evaluated(trainer.global_step, module.evaluation_sums())
        self.recorder.resume("eval")
        trainer.should_stop = trainer.should_stop or self.recorder.stopped_early

    def on_save_checkpoint(
        self, trainer: Trainer, module: TrainingModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the recorder's memory into the checkpoint."""
        checkpoint["recorder"] = self.recorder.state(trainer.global_step)


def trainer_on(device: Device, module: TrainingModule, **options: Any) -> Trainer:
    """A Trainer that leaves logging, progress, signals and the order of the data to the core.

    Only here: the Trainer is the loop that the Flax side writes out.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = Trainer(
            **sharing(device, module),
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **options,
        )
    # Of several processes Lightning's handler of SIGTERM waits for the others, wherever they are, and
    # its loop asks all before every batch, which a GPU has to wait for.
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer
