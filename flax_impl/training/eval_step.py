"""The evaluation of one batch, compiled."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from flax_impl.data.gather import gather_batch_per_device, normalised
from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.training.train_state import TrainState

if TYPE_CHECKING:  # which takes `stacked` from here
    from flax_impl.training.step import StepContext


def make_eval_step(context: "StepContext", each: bool = False, lifts: bool = False) -> Callable:
    """Compile the evaluation of one batch.

    The result is a jitted function of (state, samples, rows, draws, counted). It returns the sums over the
    batch `[values]`, and with `each` the predictions for each sample `[batch, …]`, by name. With `lifts` the
    model computes in float64 throughout.
    """
    prepare = gather_batch_per_device(context.device, context.plan)
    loss = context.loss

    flags = context.config.backend.xla_flags

    @partial(jax.jit, out_shardings=context.device.everywhere, compiler_options=flags)
    def step(
        state: TrainState, samples: Samples, rows: BatchRows, draws: Batch, counted: jax.Array
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        batch = normalised(samples, prepare(samples, rows, draws))
        params = state.params if state.averages is None else state.averages
        variables = {"params": params, "batch_stats": state.batch_stats}
        apply_fn = state.apply_fn
        if lifts:
            from flax_impl.verify.primitives.draws import (
                lifted_call,  # loads what other runs do not need
            )

            apply_fn = lifted_call(apply_fn)
        outputs = loss.outputs(apply_fn, variables, batch)
        predictions = loss.predictions(outputs, batch) if each else {}
        values = loss.sums(outputs, batch, counted=counted)
        return stacked(values), predictions

    return step


def stacked(sums: Sequence[jax.Array]) -> jax.Array:
    """Return the sums over a batch in one array `[values]`."""
    return jnp.concatenate([value.reshape(-1) for value in sums])
