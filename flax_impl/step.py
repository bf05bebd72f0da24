"""One training step and one evaluation step, compiled."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from operator import itemgetter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state

from flax_impl.data import Chosen, Samples, normalised, raw_on_each
from flax_impl.device import Device
from flax_impl.losses import mean_over, of_each, sums
from flax_impl.observing import Watch, watching
from flax_impl.randomness import step_key
from flax_impl.sharding import gathered, shardings
from pipeline.config import Config, TrainConfig
from pipeline.metrics import SUMS
from pipeline.plan import DataPlan

Values = jax.Array


class TrainState(train_state.TrainState):
    """Flax's training state, with batch statistics and an average of the weights.

    Only here, with the functions below: Lightning's `TrainingModule` is state and steps in one.

    Args:
        batch_stats: empty for a model without batch normalisation.
        averages: None without `train.ema`.
    """

    batch_stats: Any = struct.field(default_factory=dict)
    averages: Any = None

    def apply_gradients(
        self, *, grads: Any, learning_rate: jax.Array, ema: float | None, **changes: Any
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
            step=self.step + 1, params=params, opt_state=opt_state, averages=averages, **changes
        )


def apply_of(model: nn.Module, groups: Any, device: Device) -> Callable:
    """A model's `apply`, through which no gradient reaches the frozen parameters.

    Args:
        model: a user's own may do without the argument `train`.
        groups: a `Group` for each leaf of the parameters.
        device: on which the variables are shared or not; the model sees them whole.
    """
    told = "train" in signature(type(model).__call__).parameters

    # A function of its own: the model's bound method would be hashed by its fields.
    def apply_fn(variables: Any, inputs: Any, train: bool = False, **options: Any) -> Any:
        variables = gathered(variables, device)
        params = jax.tree.map(
            lambda group, leaf: jax.lax.stop_gradient(leaf) if group.frozen else leaf,
            groups,
            variables["params"],
        )
        options |= {"train": train} if told else {}
        return model.apply({**variables, "params": params}, inputs, **options)

    return apply_fn


def clip(gradients: Any, norm: jax.Array, train: TrainConfig) -> Any:
    """Gradients scaled to `train.clip_norm`, or cut off at `train.clip_value`.

    By min(1, limit / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_; optax's lacks the 1e-6. Only
    here: Lightning's module clips by torch's own functions.
    """
    if train.clip_norm is not None:
        factor = jnp.minimum(1.0, train.clip_norm / (norm + 1e-6))
        return jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients)
    if train.clip_value is not None:
        limit = train.clip_value
        return jax.tree.map(lambda gradient: jnp.clip(gradient, -limit, limit), gradients)
    return gradients


def make_train_step(
    config: Config, plan: DataPlan, device: Device, watch: Watch | None = None
) -> Callable:
    """A function of (state, samples, chosen, draws, learning rates) for one or more steps.

    Args:
        config: of the experiment.
        plan: the data.
        device: where.
        watch: notes what modules take and give; None looks away.

    Returns:
        A jitted function; it donates the state, and returns the new one, the values of each step
        `[steps, values]` (sums of the batch in the order of `metrics.SUMS`, then the gradients' norm),
        and what was watched, with an axis of steps.
    """
    center = jnp.asarray(plan.center, device.dtype)
    task, train = plan.data.task, config.train
    raw = raw_on_each(device, plan.padding, axis=1)

    def loss(params: Any, stats: Any, state: TrainState, part: tuple) -> tuple[Any, tuple]:
        """The mean loss of one part of the batch; its sums, the statistics after it, what was seen."""
        index, inputs, targets = part
        with watching(watch) as seen:
            outputs, changed = state.apply_fn(
                {"params": params, "batch_stats": stats},
                inputs,
                train=True,
                rngs={"dropout": step_key(config, state.step, index)},
                mutable=["batch_stats"],
            )
        values = sums(task, outputs, targets, center, train.label_smoothing)
        aux = jnp.stack(values), changed.get("batch_stats", {}), dict(seen)
        return values[0] / mean_over(task, targets), aux

    def gradients(
        samples: Samples, state: TrainState, chosen: Chosen, draws: Any
    ) -> tuple[tuple, Any]:
        """Gradients of the mean loss, sums over all parts of the batch, statistics; what was seen."""
        differentiate = jax.value_and_grad(loss, has_aux=True)

        def add(total: tuple, part: tuple) -> tuple[tuple, Any]:
            grads, values, stats = total
            index, inputs, targets = part
            inputs = normalised(samples, inputs)
            (_, (more, stats, forward)), new = differentiate(
                state.params, stats, state, (index, inputs, targets)
            )
            grads = jax.tree.map(lambda old, grad: old + grad / train.accumulate, grads, new)
            seen = {"batch": (inputs, targets), "forward": forward} if watch else {}
            return (grads, values + more, stats), seen

        parts = (jnp.arange(train.accumulate), *raw(samples, chosen, draws))
        nothing = jax.tree.map(jnp.zeros_like, state.params)
        values = jnp.zeros(len(SUMS[task]), center.dtype)
        total, seen = _repeat(device, add, (nothing, values, state.batch_stats), parts)
        return total, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)

    def step(samples: Samples, state: TrainState, batch: tuple) -> tuple[TrainState, tuple]:
        chosen, draws, learning_rate = batch
        (grads, values, stats), seen = gradients(samples, state, chosen, draws)
        norm = optax.tree.norm(grads).astype(values.dtype)
        clipped = clip(grads, norm, train)
        state = state.apply_gradients(
            grads=clipped, learning_rate=learning_rate, ema=train.ema, batch_stats=stats
        )
        state = jax.lax.with_sharding_constraint(state, shardings(state, device))
        if watch:
            seen["gradients"] = (grads, clipped)
        return state, (jnp.append(values, norm), seen)

    @partial(jax.jit, donate_argnums=0)
    def steps(
        state: TrainState, samples: Samples, chosen: Any, draws: Any, learning_rates: Any
    ) -> tuple[TrainState, Values, Any]:
        body = partial(step, samples)
        state, (values, seen) = _repeat(device, body, state, (chosen, draws, learning_rates))
        return state, jax.lax.with_sharding_constraint(values, device.everywhere), seen

    return steps


def make_eval_step(config: Config, plan: DataPlan, device: Device, each: bool = False) -> Callable:
    """A jitted function of (state, samples, chosen, counted) for one batch.

    Args:
        config: of the experiment.
        plan: the data.
        device: where.
        each: whether to tell of each sample, too.

    Returns:
        The sums over the batch `[values]`, and what a classifier says of each sample
        `[batch, values]`, or None.
    """
    center = jnp.asarray(plan.center, device.dtype)
    raw = raw_on_each(device)

    @partial(jax.jit, out_shardings=device.everywhere)
    def step(
        state: TrainState, samples: Samples, chosen: Chosen, counted: Any
    ) -> tuple[Values, jax.Array | None]:
        inputs, targets = raw(samples, chosen, None)
        params = state.params if state.averages is None else state.averages
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs = state.apply_fn(variables, normalised(samples, inputs))
        said = of_each(outputs, targets, center.dtype) if each else None
        return jnp.stack(sums(plan.data.task, outputs, targets, center, counted=counted)), said

    return step


def _repeat(device: Device, body: Callable, state: Any, batches: Any) -> tuple[Any, Any]:
    """`jax.lax.scan`, or on a CPU the same written out: XLA's convolutions are slow in its loops.

    One round is no loop.

    `unroll=True` is no help: what a scan lowers to keeps the slow path (6 times slower for `cnn`).
    """
    rounds = len(jax.tree.leaves(batches)[0])
    if device.kind == "gpu" and rounds > 1:
        return jax.lax.scan(body, state, batches)
    outputs = []
    for index in range(rounds):
        state, output = body(state, jax.tree.map(itemgetter(index), batches))
        outputs.append(output)
    return state, jax.tree.map(lambda *parts: jnp.stack(parts), *outputs)
