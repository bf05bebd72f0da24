"""One training step and one evaluation step, compiled."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.training import train_state

from flax_impl.data import Samples, normalised, raw
from flax_impl.device import Device
from flax_impl.losses import sums
from pipeline.config import Config
from pipeline.plan import DataPlan

Values = jax.Array


class TrainState(train_state.TrainState):
    """Flax's training state, with an average of the weights; None without `train.ema`.

    Only here, with the functions below: Lightning's `TrainingModule` is state and steps in one.
    """

    averages: Any = None

    def apply_gradients(
        self, *, grads: Any, learning_rate: jax.Array, ema: float | None
    ) -> "TrainState":
        """One update, and one of the average of the weights: its first is a copy, as torch's."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, self.params, updates)
        averages = self.averages
        if ema is not None:
            share = jnp.where(self.step == 0, 1.0, 1 - ema)
            averages = jax.tree.map(
                lambda a, p: a + share.astype(a.dtype) * (p - a), averages, params
            )
        return self.replace(
            step=self.step + 1, params=params, opt_state=opt_state, averages=averages
        )


def make_train_step(config: Config, plan: DataPlan, device: Device) -> Callable:
    """A function of (state, samples, indices, draws, learning rates) for one or more steps.

    Returns:
        A jitted function; it donates the state, and returns the new one and the values of each step
        `[steps, values]`: sums of the batch in the order of `metrics.SUMS`, then the gradients' norm.
    """
    center = jnp.asarray(plan.center, device.dtype)
    task, train = plan.data.task, config.train

    def loss(params: Any, state: TrainState, inputs: Any, targets: Any) -> tuple[Any, Values]:
        """The mean loss of one part of the batch, and its sums."""
        outputs = state.apply_fn({"params": params}, inputs)
        part = sums(task, outputs, targets, center, train.label_smoothing)
        return part[0] / len(targets), jnp.stack(part)

    def gradients(state: TrainState, inputs: Any, targets: Any) -> tuple[Any, Values]:
        """Gradients of the mean loss, and the sums, over all parts of the batch."""

        def add(total: tuple, part: tuple) -> tuple[tuple, None]:
            (_, values), grads = jax.value_and_grad(loss, has_aux=True)(state.params, state, *part)
            grads = jax.tree.map(lambda grad: grad / train.accumulate, grads)
            return jax.tree.map(jnp.add, total, (grads, values)), None

        if train.accumulate == 1:
            (_, values), grads = jax.value_and_grad(loss, has_aux=True)(
                state.params, state, inputs, targets
            )
            return grads, values
        split = lambda x: x.reshape(train.accumulate, -1, *x.shape[1:])  # noqa: E731
        width = jax.eval_shape(loss, state.params, state, inputs, targets)[1]
        zeros = jax.tree.map(jnp.zeros_like, (state.params, width))
        total, _ = _repeat(device, add, zeros, (split(inputs), split(targets)))
        return total

    def step(samples: Samples, state: TrainState, batch: tuple) -> tuple[TrainState, Values]:
        indices, draws, learning_rate = batch
        inputs, targets = raw(samples, indices, draws, plan.padding)
        grads, values = gradients(state, normalised(samples, inputs), targets)
        norm = optax.tree.norm(grads).astype(values.dtype)
        state = state.apply_gradients(grads=grads, learning_rate=learning_rate, ema=train.ema)
        return state, jnp.append(values, norm)

    @partial(jax.jit, donate_argnums=0)
    def steps(
        state: TrainState, samples: Samples, indices: Any, draws: Any, learning_rates: Any
    ) -> tuple[TrainState, Values]:
        body = partial(step, samples)
        return _repeat(device, body, state, (indices, draws, learning_rates))

    return steps


def make_eval_step(config: Config, plan: DataPlan, device: Device) -> Callable:
    """A jitted function of (state, samples, indices, counted): sums over one batch `[values]`."""
    center = jnp.asarray(plan.center, device.dtype)

    @jax.jit
    def step(state: TrainState, samples: Samples, indices: Any, counted: Any) -> Values:
        inputs, targets = raw(samples, indices)
        params = state.params if state.averages is None else state.averages
        outputs = state.apply_fn({"params": params}, normalised(samples, inputs))
        return jnp.stack(sums(plan.data.task, outputs, targets, center, counted=counted))

    return step


def _repeat(device: Device, body: Callable, state: Any, batches: Any) -> tuple[Any, Any]:
    """`jax.lax.scan`, or on a CPU the same written out: XLA's convolutions are slow in its loops.

    `unroll=True` is no help: what a scan lowers to keeps the slow path (6 times slower for `cnn`).
    """
    if device.kind == "gpu":
        return jax.lax.scan(body, state, batches)
    outputs = []
    for index in range(len(jax.tree.leaves(batches)[0])):
        state, output = body(state, jax.tree.map(itemgetter(index), batches))
        outputs.append(output)
    return state, jax.tree.map(lambda *parts: jnp.stack(parts), *outputs)
