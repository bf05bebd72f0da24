"""The training loop: Lightning's Trainer, with a callback for the recorder."""

import warnings
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from operator import attrgetter
from traceback import walk_tb
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_impl.checkpoints import BestCheckpoint, CheckpointFiles, Checkpoints
from lightning_impl.data.batches import EvalBatches, TrainBatches
from lightning_impl.device import Device
from lightning_impl.state import evaluated_weights, parameters_of
from lightning_impl.strategies import trainer_options
from lightning_impl.training.compiling import compiling
from lightning_impl.training.epoch_loop import EpochLoop
from lightning_impl.training.profiling import Profiler
from lightning_impl.training.step import TrainingModule
from pipeline.errors import UserError
from pipeline.loggers.callbacks import Callbacks, failed
from pipeline.run.backends import Tested
from pipeline.run.experiment import Experiment
from pipeline.storage.checkpoints import remove_unfinished_saves, run_signature
from pipeline.storage.run_folder import CHECKPOINTS

# The order of a step, the same as in `flax_impl.training.loop`. It must not change: weights, recorder
# state and data position in a checkpoint belong to the same step.
#
# 1. TrainBatches           rows of the batch plan at this step; the position follows from the step alone
# 2. TrainingModule         optimizer_step sets the learning rate; for each micro-batch training_step
#                           and the backward pass; clipping, update, average of the weights
# 3. _RecorderCallback      on_train_batch_end: the recorder keeps the values on the device; reads and logs
#                           them if a line is due. The module shows the step to the observer, if any
# 4. Trainer                if an evaluation is due: validation_step for each batch
# 5. _RecorderCallback      on_validation_epoch_end: the recorder logs the sums, records the best, and calls
#                           the user's callbacks that are the same on both backends
# 6. Lightning callbacks    of the user run; `trainer.callback_metrics` is filled
# 7. BestCheckpoint,        on_validation_end: save, and keep the newest and the best
#    Checkpoints
# 8. Trainer                stops at the last step, or when early stopping says so
# 9. Checkpoints            after a signal: save, unless step 7 has, and leave the loop

# Lightning's private methods that are switched off or called, as attribute paths from a Trainer. With
# several processes its SIGTERM handler waits for the others, and its loop synchronises them before
# every batch.
SWITCHED_OFF = (
    "_signal_connector.register_signal_handlers",
    "fit_loop.epoch_loop._broadcast_sigterm_tensor",
)
CALLED = (
    "strategy._forward_redirection",
    "checkpoint_callback._save_topk_checkpoint",
    "checkpoint_callback._monitor_candidates",
)


def train(
    experiment: Experiment, device: Device, module: TrainingModule, resumed: CheckpointFiles
) -> None:
    """Run Lightning's Trainer to the end of the run, from a module at step 0 or a checkpoint's content."""
    plan, recorder, config = experiment.plan, experiment.recorder, experiment.config.train
    if recorder.stopped_early:
        return  # early stopping had already ended this run
    folder = str(experiment.folder / CHECKPOINTS)
    if device.world.is_main:  # the other ranks may be here while this one still imports checkpoints
        remove_unfinished_saves(experiment.folder / CHECKPOINTS)
    parts = plan.data.task.summed_parts(config.accumulate)
    trainer = trainer_on(
        device,
        module,
        max_steps=recorder.intervals.total,
        max_epochs=-1,
        accumulate_grad_batches=parts,
        # In batches, counted over epochs: an evaluation may fall inside one.
        val_check_interval=recorder.intervals.eval_every * parts,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[
            _RecorderCallback(experiment, device, module),
            *(callback for _, callback in recorder.callbacks.native),
            BestCheckpoint(folder, recorder),
            Checkpoints(folder, recorder),
        ],
    )
    trainer.strategy.checkpoint_io = resumed
    batches = TrainBatches(plan, device, config.accumulate, lambda: trainer.global_step)
    if recorder.step == 0:
        recorder.describe(parameters_of(module.model), batches.digest())
    watched = compiling(experiment.config, module.model, recorder)
    with closing(batches), _naming_callbacks(trainer, recorder.callbacks), watched:
        trainer.fit(
            module,
            train_dataloaders=batches,
            val_dataloaders=EvalBatches(plan.data.val, plan, device, config.eval_batch),
            ckpt_path=folder if resumed.content else None,  # any path: `resumed` has the content
        )


@contextmanager
def _naming_callbacks(trainer: Trainer, callbacks: Callbacks) -> Generator[None]:
    """Name the user's Lightning callback in which an error was raised.

    Only here: Lightning's Trainer calls them.
    """
    try:
        yield
    except Exception as error:
        for frame, _ in walk_tb(error.__traceback__):
            for path, callback in callbacks.native:
                if frame.f_locals.get("self") is callback:
                    raise failed(path, trainer.global_step, error) from error
        raise


def evaluate(experiment: Experiment, device: Device, module: TrainingModule) -> Tested:
    """Test the weights of a module."""
    plan, config = experiment.plan, experiment.config.train
    batches = EvalBatches(plan.data.test, plan, device, config.eval_batch)
    copied = _CopiedWeights(module)
    callbacks = [copied] if plan.data.task.samples else []
    trainer = trainer_on(device, module, callbacks=callbacks)
    trainer.test(module, dataloaders=batches, verbose=False)
    sums, predictions = module.evaluation_sums(), {}
    for name, parts in module.predictions.items():
        predictions[name] = device.read([batches.in_order(torch.cat(parts))])[0]
    module.predictions = {}
    return Tested(sums, predictions, copied.weights)


class _CopiedWeights(Callback):
    """Copies the weights that are tested, before Lightning ends the test and moves them."""

    def __init__(self, module: TrainingModule) -> None:
        self.module, self.weights = module, {}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy them; all processes take part, as they may be sharded."""
        average = self.module.average
        self.weights = evaluated_weights(self.module.model, average and average.module)


class _RecorderCallback(Callback):
    """Passes each step's values to the recorder, and stops when the recorder says so."""

    def __init__(self, experiment: Experiment, device: Device, module: TrainingModule) -> None:
        self.recorder, self.device = experiment.recorder, device
        self.intervals, self.folder = experiment.recorder.intervals, experiment.folder
        self.module = module
        profiled = experiment.config.train.profile if device.world.is_main else None
        self.profiler = Profiler(experiment.folder, profiled)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.module.reapply_hyperparameters()
        self.module.show_start()
        self.recorder.begin(trainer.global_step, self.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object, **kwargs: object
    ) -> None:
        """Record an update's values; end the run at its last step."""
        step = trainer.global_step
        if step == self.recorder.step:
            return  # a micro-batch: no update yet
        values = self.module.step_values()
        self.recorder.record_step(step, values)
        self.module.show(values)
        self.profiler.stepped(1)
        if self.intervals.logs(step):
            # Not by `log_dict`: it takes a millisecond for each, and slows down every step.
            trainer.callback_metrics.update(
                (key, torch.tensor(value))
                for key, value in self.recorder.tracker.last.items()
                if key.startswith("train/")
            )
        if self.intervals.evaluates(step):
            # When told to stop, Lightning evaluates once more, even if no evaluation is due.
            trainer.should_stop = trainer.should_stop or step == self.intervals.total

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the evaluation."""
        self.recorder.pause()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the evaluation, before the checkpoint callbacks run."""
        average = self.module.average
        weights = partial(evaluated_weights, self.module.model, average and average.module)
        metrics = self.recorder.record_evaluation(
            trainer.global_step, self.module.evaluation_sums(), weights
        )
        # The recorder has summed it over the devices and logged it.
        pl_module.log_dict(metrics, logger=False)
        self.recorder.resume("eval")
        trainer.should_stop = trainer.should_stop or self.recorder.stopped_early

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Put the recorder's state and the run's signature into the checkpoint."""
        checkpoint["recorder"] = self.recorder.state(trainer.global_step).to_json()
        checkpoint["signature"] = run_signature(self.folder)


def trainer_on(device: Device, module: TrainingModule, **options: Any) -> Trainer:
    """Make a Trainer without Lightning's own logging, progress bar, signal handlers and samplers.

    Only here: the Flax loop is our own.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = Trainer(
            **trainer_options(device, module),
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **options,
        )
    for path in (*SWITCHED_OFF, *CALLED):
        try:
            attrgetter(path)(trainer)
        except AttributeError as error:
            problem = f"lightning {lightning.__version__} has no Trainer.{path}"
            hint = "Install a version that Tandem knows: pip install 'lightning>=2.6,<2.7'."
            raise UserError("backend", "torch", problem=problem, hint=hint) from error
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, module)
    for path in SWITCHED_OFF:
        owner, _, name = path.rpartition(".")
        setattr(attrgetter(owner)(trainer), name, lambda: None)
    return trainer
