"""One training step: pure functions, and what is compiled from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flax_impl.adapters.dropout import Layers, share_linen
from flax_impl.adapters.keywords import training_keywords
from flax_impl.data.gather import gather_batch_per_device, normalised
from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.device import Device, PyTree
from flax_impl.randomness import step_key
from flax_impl.remat import wrap_blocks
from flax_impl.sharding import shardings
from flax_impl.tasks import TaskLoss, build_loss
from flax_impl.training.eval_step import stacked
from flax_impl.training.gradients import clip_gradients
from flax_impl.training.train_state import TrainState
from flax_impl.vectorized.number import with_numbers
from pipeline.config.experiment import Config
from pipeline.data.batch_plan import BatchPlan

MicroBatch = tuple[jax.Array, Batch]  # position in the batch, fields
# Samples, their draws, terms of the batch's mean loss, learning rate.
StepInputs = tuple[BatchRows, Batch, jax.Array, jax.Array]


@dataclass(frozen=True)
class StepContext:
    """The constants of a compiled step."""

    config: Config
    plan: BatchPlan
    device: Device
    words: jax.Array | None = None  # of `step_key`: of one of several runs that train at once

    @cached_property
    def loss(self) -> TaskLoss:
        """The loss of the task."""
        return build_loss(self.config, self.plan.data, self.device)


class _Gradients(NamedTuple):
    """Gradients of a whole batch, and the other results of its forward passes."""

    grads: PyTree  # of the mean loss
    sums: jax.Array  # `[values]`, in the order of `Task.sums`
    batch_stats: PyTree  # running statistics after the batch


def make_apply_fn(
    model: nn.Module, groups: PyTree, device: Device, remat: bool = False, by_block: bool = True
) -> Callable:
    """Make a model's `apply`, with no gradient to the frozen parameters.

    `groups` has a `ParamGroup` for each leaf of the parameters. With `remat` the activations of blocks are
    computed again for the gradient. Without `by_block`, sharded parameters are gathered all at the start.
    `numbers` of a call take the place of those of the model's config.
    """
    blocks = wrap_blocks(model, groups, device, gather=by_block, remat=remat)
    # Of a user's own model: `train`, `deterministic`, …, or none.
    modes = {train: training_keywords(type(model).__call__, train) for train in (True, False)}

    # Not the model's bound method, which is hashed by the model's fields.
    def apply_fn(
        variables: dict,
        *inputs: jax.Array,
        train: bool = False,
        numbers: Mapping[str, object] | None = None,
        **options: PyTree,
    ) -> PyTree:
        # Gathered on every device; otherwise the compiler might send the activations instead.
        params = blocks.gather_others(variables["params"])
        params = jax.tree.map(
            lambda group, leaf: jax.lax.stop_gradient(leaf) if group.frozen else leaf,
            groups,
            params,
        )
        layers = Layers(options.get("rngs", {}).get("dropout"), is_last=True)
        options |= modes[train]
        with blocks.active(), nn.intercept_methods(partial(share_linen, layers)):
            own = model
            if numbers:
                own = model.clone(config=with_numbers(getattr(model, "config", None), numbers))
            return own.apply({**variables, "params": params}, *inputs, **options)

    return apply_fn


def forward(
    context: StepContext, state: TrainState, part: MicroBatch, batch_stats: PyTree, params: PyTree
) -> tuple[PyTree, PyTree, PyTree]:
    """Return a model's outputs for one micro-batch, the running statistics after it, nothing to observe."""
    index, batch = part
    key = step_key(context.config, state.step, index, context.words, context.device.devices)
    outputs, changed = context.loss.outputs(
        state.apply_fn,
        {"params": params, "batch_stats": batch_stats},
        batch,
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    return outputs, changed.get("batch_stats", {}), {}


def accumulate_gradients(
    context: StepContext,
    samples: Samples,
    state: TrainState,
    inputs: StepInputs,
    forward: Callable = forward,
) -> tuple[_Gradients, PyTree]:
    """Sum the gradients over the micro-batches; join the observations of `forward` along the batch."""
    rows, draws, terms, _ = inputs
    parts = context.config.train.accumulate
    prepare = gather_batch_per_device(context.device, context.plan, axis=1)
    batches = jnp.arange(parts), prepare(samples, rows, draws)
    if context.plan.data.task.whole_batch:
        return _differentiate_whole(context, samples, state, batches, terms, forward)

    def add(total: _Gradients, part: MicroBatch) -> tuple[_Gradients, PyTree]:
        batch = normalised(samples, part[1])

        def mean(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree, PyTree]]:
            outputs, batch_stats, seen = forward(
                context, state, (part[0], batch), total.batch_stats, params
            )
            values = context.loss.sums(outputs, batch, training=True)
            return values[0] / (terms / parts), (stacked(values), batch_stats, seen)

        (_, (values, batch_stats, seen)), grads = jax.value_and_grad(mean, has_aux=True)(
            state.params
        )
        grads = jax.tree.map(lambda old, new: old + new / parts, total.grads, grads)
        grads = _sharded(grads, context.device)
        return _Gradients(grads, total.sums + values, batch_stats), seen

    nothing = jax.tree.map(jnp.zeros_like, state.params)
    values = jnp.zeros(len(context.plan.data.sums), context.device.dtype)
    start = _Gradients(nothing, values, state.batch_stats)
    total, seen = _repeat(context.device, add, start, batches)
    return total, _along_batch(seen)


def _differentiate_whole(
    context: StepContext,
    samples: Samples,
    state: TrainState,
    batches: MicroBatch,
    terms: jax.Array,
    forward: Callable,
) -> tuple[_Gradients, PyTree]:
    """Differentiate a loss that takes the outputs of a whole batch, on every device.

    Of several micro-batches only the outputs are kept: each is computed again for its gradient, so that the
    memory is that of one (Gao et al. 2021).
    """
    task, parts = context.plan.data.task, context.config.train.accumulate

    def mean(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree, PyTree]]:
        def run(batch_stats: PyTree, part: MicroBatch) -> tuple[PyTree, PyTree]:
            batch = normalised(samples, part[1])
            call = partial(forward, context, state)
            call = jax.checkpoint(call) if parts > 1 else call
            outputs, batch_stats, seen = call((part[0], batch), batch_stats, params)
            return batch_stats, (outputs, {n: batch[n] for n in task.loss_fields}, seen)

        batch_stats, (*found, seen) = _repeat(context.device, run, state.batch_stats, batches)
        whole = jax.lax.with_sharding_constraint(_along_batch(found), context.device.everywhere)
        values = context.loss.sums(*whole, training=True)
        return values[0] / terms, (stacked(values), batch_stats, _along_batch(seen))

    (_, (values, batch_stats, seen)), grads = jax.value_and_grad(mean, has_aux=True)(state.params)
    return _Gradients(_sharded(grads, context.device), values, batch_stats), seen


def _sharded(gradients: PyTree, device: Device) -> PyTree:
    """Keep of the gradients only each device's shard, as of the state; summed by a reduce-scatter."""
    return jax.lax.with_sharding_constraint(gradients, shardings(gradients, device))


def _along_batch(tree: PyTree) -> PyTree:
    """Join the micro-batches of arrays `[micro-batches, samples, …]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def update(
    context: StepContext, state: TrainState, gradients: _Gradients, learning_rate: jax.Array
) -> tuple[TrainState, jax.Array, PyTree]:
    """Clip the gradients, and update the state.

    The second result is `[values]`, the sums of the batch and the gradient norm; the third the clipped
    gradients.
    """
    norm = optax.tree.norm(gradients.grads).astype(gradients.sums.dtype)
    train = context.config.train
    clipped = clip_gradients(gradients.grads, norm, train)
    state = state.updated(clipped, learning_rate, train.ema, batch_stats=gradients.batch_stats)
    state = jax.lax.with_sharding_constraint(state, shardings(state, context.device))
    return state, jnp.append(gradients.sums, norm), clipped


def _train_step(
    context: StepContext, samples: Samples, state: TrainState, inputs: StepInputs
) -> tuple[TrainState, jax.Array]:
    """Take one step; return the state and values of `update`."""
    gradients, _ = accumulate_gradients(context, samples, state, inputs)
    return update(context, state, gradients, inputs[-1])[:2]


def make_train_step(context: StepContext, step: Callable = _train_step) -> jax.stages.Wrapped:
    """Compile one or more steps; `step` is the plain one, or `step_trace.observe_step`.

    The result is a jitted function of (state, samples, rows, draws, terms, learning rates); the last four
    have an axis of steps. It donates the state, and returns the new one and the outputs of `step` with that
    axis.
    """

    @partial(jax.jit, donate_argnums=0, compiler_options=context.config.backend.xla_flags)
    def steps(
        state: TrainState,
        samples: Samples,
        rows: BatchRows,
        draws: Batch,
        terms: jax.Array,
        learning_rates: jax.Array,
    ) -> tuple[TrainState, PyTree]:
        body = partial(step, context, samples)
        state, values = _repeat(context.device, body, state, (rows, draws, terms, learning_rates))
        return state, jax.lax.with_sharding_constraint(values, context.device.everywhere)

    return steps


def _repeat(device: Device, body: Callable, state: PyTree, batches: PyTree) -> tuple:
    """`jax.lax.scan`, or a Python loop on a CPU and for a single step.

    XLA's convolutions are slow in loops on a CPU (6 times for `cnn`); `unroll=True` does not help.
    """
    rounds = len(jax.tree.leaves(batches)[0])
    if device.kind == "gpu" and rounds > 1:
        return jax.lax.scan(body, state, batches)
    outputs = []
    for index in range(rounds):
        state, output = body(state, jax.tree.map(itemgetter(index), batches))
        outputs.append(output)
    return state, jax.tree.map(lambda *parts: jnp.stack(parts), *outputs)
