"""What the core asks of this backend."""

import logging
from collections.abc import Mapping
from functools import partial

import flax
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint

from flax_impl.checkpoints import read_checkpoint
from flax_impl.device import Device, prepare
from flax_impl.layers import layer_kinds
from flax_impl.loop import evaluate
from flax_impl.loop import train as train_loop
from flax_impl.models import build_model
from flax_impl.optimizers import build_optimizer
from flax_impl.state import Kinds, from_portable, initial_state
from flax_impl.step import TrainState
from pipeline.checkpoints import Checkpoint, first_readable
from pipeline.experiment import Experiment

__all__ = ["prepare", "test", "train", "versions"]

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
    state, kinds = build(experiment, device)
    if experiment.resume:
        read = partial(read_checkpoint, template=state, kinds=kinds)
        resume, content = first_readable(
            experiment.resume, read, experiment.recorder.progress.message
        )
        state = content["state"]
        experiment.recorder.restore(resume.step, content["recorder"])
    train_loop(experiment, device, state, kinds)


def test(experiment: Experiment, device: Device, checkpoint: Checkpoint) -> Mapping[str, float]:
    """Sums over the test set of the weights in a checkpoint.

    Raises:
        UserError: the checkpoint is broken or of another model.
    """
    state, kinds = build(experiment, device)
    read = partial(read_checkpoint, template=state, kinds=kinds)
    _, content = first_readable([checkpoint], read, lambda message: None)
    return evaluate(experiment, device, content["state"])


def versions() -> dict[str, str]:
    """The versions of the libraries that decide the result."""
    libraries = {"jax": jax, "flax": flax, "optax": optax, "orbax": orbax.checkpoint}
    return {name: library.__version__ for name, library in libraries.items()}


def build(experiment: Experiment, device: Device) -> tuple[TrainState, Kinds]:
    """The state at step 0, in the run's number type, and the kinds of the model's layers."""
    config, data = experiment.config, experiment.plan.data
    shape = data.train.inputs.shape[1:]
    model = build_model(
        config.model, shape, data.outputs, dtype=device.compute_dtype, param_dtype=device.dtype
    )
    inputs = jax.ShapeDtypeStruct((1, *shape), device.dtype)
    kinds = layer_kinds(model, inputs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
    params = jax.tree.map(
        jnp.asarray, from_portable(initial_state(shapes, kinds, config), kinds, device.dtype)
    )
    state = TrainState.create(
        # A bound method would be hashed by its model's fields, and a config cannot be.
        apply_fn=partial(model.apply),
        params=params,
        tx=build_optimizer(config.optimizer, config.train.clip_norm),
        averages=None if config.train.ema is None else jax.tree.map(jnp.copy, params),
    )
    return state.replace(step=jnp.zeros((), jnp.int32)), kinds
