"""Conversion between Lightning's checkpoints and portable ones, which any backend can read."""

from dataclasses import replace
from typing import Any

import lightning

from lightning_impl.checkpoints import read_checkpoint
from lightning_impl.device import Device
from lightning_impl.state import from_portable, shapes_of, to_portable
from lightning_impl.training.loop import trainer_on
from lightning_impl.training.step import TrainingModule
from pipeline.run.experiment import Experiment
from pipeline.storage.checkpoints import Checkpoint, check_shapes, run_signature
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import RecorderState
from pipeline.training.intervals import Intervals


def export_checkpoint(
    checkpoint: Checkpoint, template: TrainingModule
) -> tuple[PortableState, RecorderState]:
    """Read a checkpoint's portable state and its recorder's state; `template` is the state at step 0.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
    """
    content = read_checkpoint(checkpoint, template)
    template.load_state_dict(content["state_dict"], strict=True)
    optimizer = template.configure_optimizers()
    optimizer.load_state_dict(content["optimizer_states"][0])
    averages = dict(template.average.module.named_parameters()) if template.average else {}
    state = to_portable(checkpoint.step, template.model, template.named_optimizer, averages)
    return state, RecorderState.from_json(content["recorder"])


def import_checkpoint(
    portable: PortableCheckpoint, experiment: Experiment, device: Device, module: TrainingModule
) -> dict[str, Any]:
    """Fill `module` with a portable checkpoint; return it as the content of a Lightning checkpoint."""
    module.configure_optimizers()
    fill_module(module, portable, experiment.config.train.accumulate)
    step, memory = portable.state.step, portable.recorder_state or RecorderState()
    return content_of(module, step, memory, experiment, device)


def _loops_at(
    step: int, experiment: Experiment, device: Device, module: TrainingModule
) -> dict[str, Any]:
    """Return the state of Lightning's loops after `step` updates, as in a checkpoint."""
    config, intervals = experiment.config.train, experiment.recorder.intervals
    loop = trainer_on(device, module, max_steps=intervals.total, max_epochs=-1).fit_loop
    data, parts = experiment.plan.data, experiment.plan.data.task.summed_parts(config.accumulate)
    batches = -(-len(data.val) // data.task.whole_groups(config.eval_batch))
    loop.load_state_dict(_progress_at(step, intervals, parts, batches))
    progress = loop.state_dict()
    progress["state_dict"]["combined_loader"] = [{"step": step}]
    return progress


def content_of(
    module: TrainingModule,
    step: int,
    memory: RecorderState,
    experiment: Experiment,
    device: Device,
    loops: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a module and its optimizer after `step` updates as the content of a Lightning checkpoint.

    `memory` is the recorder's state; `loops` are those of another content of this step.
    """
    steps_per_epoch = experiment.recorder.intervals.steps_per_epoch
    return {
        "epoch": max(0, step - 1) // steps_per_epoch,  # Lightning does not read it
        "global_step": step,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": module.state_dict(),
        "loops": loops or {"fit_loop": _loops_at(step, experiment, device, module)},
        "callbacks": {},
        "optimizer_states": [module.optimizer.state_dict()],
        "lr_schedulers": [],
        "recorder": memory.to_json(),
        "signature": run_signature(experiment.folder),
    }


def _progress_at(
    step: int, intervals: Intervals, accumulate: int, evaluation: int
) -> dict[str, Any]:
    """Progress of Lightning's loops after `step` updates, as in `fit_loop.state_dict()`.

    Lightning counts the last batch as completed before an evaluation, so a checkpoint at an evaluation
    includes it and any other does not. `evaluation` is the number of evaluation batches, `accumulate` that
    of a step. Only here: the Flax loop counts steps only.
    """
    if step == 0:
        return {}
    epoch = (step - 1) // intervals.steps_per_epoch  # of the step, from 0
    before = epoch * intervals.steps_per_epoch
    evaluations = sum(map(intervals.evaluates, range(before + 1, step + 1)))
    last = evaluation if evaluations or before >= intervals.eval_every else 0
    waiting = 0 if intervals.evaluates(step) else 1
    batches, epochs = (step * accumulate, (step - before) * accumulate), _counts(epoch + 1, epoch)
    updates = {"total": _counts(step), "current": _counts(step - before)}
    return {
        "epoch_progress": {"total": epochs, "current": epochs},
        "epoch_loop.state_dict": {"_batches_that_stepped": step - 1},
        "epoch_loop.batch_progress": {
            "total": _counts(batches[0]) | {"completed": batches[0] - waiting},
            "current": _counts(batches[1]) | {"completed": batches[1] - waiting},
            "is_last_batch": step - before == intervals.steps_per_epoch,
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
    """A Lightning counter with all stages; a counter that has fewer ignores the others."""
    done = begun if done is None else done
    return {"ready": begun, "started": begun, "processed": done, "completed": done}


def fill_module(module: TrainingModule, portable: PortableCheckpoint, accumulate: int = 1) -> None:
    """Copy a portable checkpoint into a module, and into its optimizer if the module has one."""
    state, average = portable.state, module.average
    check_shapes(portable.source, state.shapes, shapes_of(module.model))
    state = replace(state, buffers=state.buffers | state.counters(accumulate))
    optimizer = getattr(module, "optimizer", None)
    from_portable(state, module.model, optimizer, average and average.module)
    if average is not None:
        average.n_averaged.fill_(state.step)
