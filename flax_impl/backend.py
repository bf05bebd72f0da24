"""What the core asks of this backend."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint

from flax_impl.checkpoints import read_checkpoint
from flax_impl.crossing import pack, unpack
from flax_impl.device import Device, prepare
from flax_impl.layers import Layout, layer_kinds, layout_of
from flax_impl.loop import evaluate
from flax_impl.loop import train as train_loop
from flax_impl.models import build_model
from flax_impl.optimizers import build_optimizer
from flax_impl.sharding import made_in_place
from flax_impl.state import by_path, from_canonical, initial_state
from flax_impl.step import TrainState, apply_of
from pipeline.checkpoints import Checkpoint, first_readable
from pipeline.config import Config
from pipeline.datasets import Task
from pipeline.errors import UserError
from pipeline.experiment import Experiment
from pipeline.groups import groups
from pipeline.parcels import Parcel
from pipeline.portable import PortableState

__all__ = ["adopt", "export", "prepare", "test", "train", "versions"]

# Orbax tells of every file it opens, JAX of every backend it does not find.
for name in ("absl", "jax"):
    logging.getLogger(name).setLevel(logging.ERROR)


def train(experiment: Experiment, device: Device) -> None:
    """Train to the end of the timetable, from scratch or from a checkpoint.

    Raises:
        UserError: no checkpoint to resume from fits or can be read.
        Interrupted: somebody asked to stop, and the state is saved.
        Diverged: the loss is no number.
    """
    state, layout = build(experiment, device)
    if experiment.resume:
        read = partial(read_checkpoint, template=state, layout=layout)
        resume, content = first_readable(
            experiment.resume, read, experiment.recorder.progress.message
        )
        state = content["state"]
        experiment.recorder.restore(resume.step, content["recorder"])
    train_loop(experiment, device, state, layout)


def test(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[Mapping[str, float], np.ndarray | None]:
    """Sums over the test set of the weights in a checkpoint, and what they say of each sample.

    Raises:
        UserError: the checkpoint is broken or of another model.
    """
    state, layout = build(experiment, device)
    read = partial(read_checkpoint, template=state, layout=layout)
    _, content = first_readable([checkpoint], read, lambda message: None, "checkpoint")
    return evaluate(experiment, device, content["state"])


def export(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[PortableState, dict[str, Any]]:
    """A checkpoint's state, and what its recorder remembers, for another backend or a file.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
        UserError: it is of another model.
    """
    return pack(checkpoint, *build(experiment, device))


def adopt(experiment: Experiment, device: Device, parcels: Sequence[Parcel]) -> None:
    """Write a run that comes from elsewhere as checkpoints in the experiment's folder.

    Args:
        experiment: that will go on with it.
        device: where.
        parcels: the run at one or more steps, in their order.

    Raises:
        UserError: it is of another model.
    """
    unpack(parcels, experiment, device, *build(experiment, device))


def versions() -> dict[str, str]:
    """The versions of the libraries that decide the result."""
    libraries = {"jax": jax, "flax": flax, "optax": optax, "orbax": orbax.checkpoint}
    return {name: library.__version__ for name, library in libraries.items()}


def build(experiment: Experiment, device: Device) -> tuple[TrainState, Layout]:
    """The state at step 0, in the run's number type, and where its arrays lie canonically."""
    config, data = experiment.config, experiment.plan.data
    shape = data.train.inputs.shape[1:]
    model = build_model(
        config.model, shape, data.outputs, dtype=device.compute_dtype, param_dtype=device.dtype
    )
    kind = jnp.int32 if data.task is Task.language else device.dtype
    layout = layout_of(model, jax.ShapeDtypeStruct((1, *shape), kind))
    check_statistics(layout, config, device)
    initial = experiment.recorder.observer.begins(initial_state(layout, config))
    shapes = {name: array.shape for name, array in initial.parameters.items()}
    folds = {
        place.name: (place.folded, place.axes)
        for place in layout.values()
        if place.collection == "params"
    }
    chosen = by_path(groups(shapes, layer_kinds(layout), config), layout)
    create = partial(
        TrainState.create,
        apply_fn=apply_of(model, chosen, device),
        tx=build_optimizer(config.optimizer, chosen, layouts=by_path(folds, layout)),
    )

    def begin(params: Any, batch_stats: Any) -> TrainState:
        averages = None if config.train.ema is None else jax.tree.map(jnp.copy, params)
        state = create(params=params, batch_stats=batch_stats, averages=averages)
        return state.replace(step=jnp.zeros((), jnp.int32))

    arrays = tuple(
        jax.tree.map(partial(np.asarray, dtype=device.dtype), from_canonical(canonical, layout))
        for canonical in (initial.parameters, initial.buffers)
    )
    return made_in_place(begin, arrays, device), layout


def check_statistics(layout: Layout, config: Config, device: Device) -> None:
    """Refuse batch statistics of each device by itself.

    Only here: torch's processes see no batch but their own.

    Raises:
        UserError: they were asked for.
    """
    has_statistics = any(place.collection == "batch_stats" for place in layout.values())
    if has_statistics and device.devices > 1 and not config.accelerator.sync_batchnorm:
        raise UserError(
            "accelerator.sync_batchnorm",
            False,
            f"true for jax on {device.devices} devices: a compiled step sees the global batch",
            "Leave it out, or use backend=torch.",
        )
