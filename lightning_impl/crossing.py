"""Checkpoints in and out: between Lightning's files and parcels that any backend can read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, Trainer

from lightning_impl.checkpoints import BestCheckpoint, Checkpoints, read_checkpoint
from lightning_impl.device import Device
from lightning_impl.loop import trainer_on
from lightning_impl.state import from_portable, shapes_of, to_portable
from lightning_impl.step import TrainingModule
from pipeline.checkpoints import FOLDER, Checkpoint, check_shapes
from pipeline.experiment import Experiment
from pipeline.parcels import Parcel
from pipeline.portable import PortableState
from pipeline.timetable import Timetable


def pack(checkpoint: Checkpoint, template: TrainingModule) -> tuple[PortableState, dict[str, Any]]:
    """A checkpoint's state and the recorder's memory.

    Args:
        checkpoint: on disk.
        template: the experiment's own module, at step 0.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
        UserError: it is of another model.
    """
    content = read_checkpoint(checkpoint, template)
    template.load_state_dict(content["state_dict"], strict=True)
    optimizer = template.configure_optimizers()
    optimizer.load_state_dict(content["optimizer_states"][0])
    averages = dict(template.average.module.named_parameters()) if template.average else {}
    state = to_portable(checkpoint.step, template.model, optimizer, averages)
    return state, content["recorder"]


def unpack(
    parcels: Sequence[Parcel], experiment: Experiment, device: Device, template: TrainingModule
) -> None:
    """Write parcels as checkpoints in the experiment's folder.

    Args:
        parcels: what the checkpoints will hold, in the order of their steps.
        experiment: whose folder it is.
        device: of the experiment.
        template: the experiment's own module, at step 0.

    Raises:
        UserError: a parcel is of another model.
    """
    config, timetable = experiment.config.train, experiment.recorder.timetable
    courier, folder = Courier(), str(experiment.folder / FOLDER)
    stores = BestCheckpoint(folder, courier), Checkpoints(folder, courier)
    trainer = trainer_on(
        device, template, max_steps=timetable.total, max_epochs=-1, callbacks=[courier, *stores]
    )
    # What `fit` does before its first step.
    trainer.strategy.connect(template)
    trainer.strategy.optimizers = [template.configure_optimizers()]
    batches = -(-len(experiment.plan.data.val) // config.eval_batch)
    for parcel in parcels:
        courier.parcel = parcel
        _fill(template, parcel, config.accumulate)
        progress = progress_at(parcel.state.step, timetable, config.accumulate, batches)
        trainer.fit_loop.load_state_dict(progress)
        for store in stores:
            store.keep(trainer)


class Courier(Callback):
    """Stands in for the recorder: what a store of checkpoints asks of it, a parcel knows.

    Attributes:
        parcel: at its step.
    """

    parcel: Parcel

    @property
    def best(self) -> dict[str, Any] | None:
        """Of the evaluations so far."""
        return self.parcel.memory["best"]

    def on_save_checkpoint(
        self, trainer: Trainer, module: TrainingModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the memory into the checkpoint, and the loader's position."""
        checkpoint["recorder"] = self.parcel.memory
        position = {"step": self.parcel.state.step}
        checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"] = [position]


def progress_at(
    step: int, timetable: Timetable, accumulate: int, evaluation: int
) -> dict[str, Any]:
    """Where Lightning's loops stand after a step, as `fit_loop.state_dict()` tells it.

    A checkpoint of an evaluation is saved after the last batch was counted as completed, any other
    before. Only here: the Flax loop counts nothing but steps.

    Args:
        step: updates done.
        timetable: of the run.
        accumulate: batches of a step.
        evaluation: batches of an evaluation.
    """
    if step == 0:
        return {}
    epoch = (step - 1) // timetable.steps_per_epoch  # that the step is in; the first is 0
    before = epoch * timetable.steps_per_epoch
    evaluations = sum(map(timetable.evaluates, range(before + 1, step + 1)))
    last = evaluation if evaluations or before >= timetable.eval_every else 0
    waiting = 0 if timetable.evaluates(step) else 1
    batches, epochs = (step * accumulate, (step - before) * accumulate), _counts(epoch + 1, epoch)
    updates = {"total": _counts(step), "current": _counts(step - before)}
    return {
        "epoch_progress": {"total": epochs, "current": epochs},
        "epoch_loop.state_dict": {"_batches_that_stepped": step - 1},
        "epoch_loop.batch_progress": {
            "total": _counts(batches[0]) | {"completed": batches[0] - waiting},
            "current": _counts(batches[1]) | {"completed": batches[1] - waiting},
            "is_last_batch": step - before == timetable.steps_per_epoch,
        },
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {"step": updates, "zero_grad": updates}
        },
        "epoch_loop.val_loop.batch_progress": {
            "total": _counts(evaluations * evaluation),
            "current": _counts(last),
            "is_last_batch": last > 0,
        },
    }


def _counts(begun: int, done: int | None = None) -> dict[str, int]:
    """A counter of Lightning's; one that knows fewer stages leaves the others out."""
    done = begun if done is None else done
    return {"ready": begun, "started": begun, "processed": done, "completed": done}


def _fill(module: TrainingModule, parcel: Parcel, accumulate: int) -> None:
    """Copy a parcel into a module and its optimizer.

    Raises:
        UserError: the parcel is of another model.
    """
    state, average = parcel.state, module.average
    check_shapes(parcel.source, state.shapes, shapes_of(module.model))
    state = replace(state, buffers=state.buffers | state.counters(accumulate))
    from_portable(state, module.model, module.optimizer, average and average.module)
    if average is not None:
        average.n_averaged.fill_(state.step)
