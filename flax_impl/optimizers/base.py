"""Parts of optimizers that optax lacks, or defines differently from torch."""

from collections.abc import Callable
from math import log

import jax
import jax.numpy as jnp
import optax

from flax_impl.device import PyTree

Step = Callable[..., tuple[jax.Array, ...]]


def make_optimizer(kind: type, step: Step, initial: float = 0.0) -> optax.GradientTransformation:
    """Make a transformation that updates each leaf independently.

    Its state is of `kind`, a NamedTuple of `count` and the slots by their canonical names; the slots begin at
    `initial`. `step` maps (time, gradient, *slots) of one leaf to (update, *slots). Time is the number of
    updates, this one included, in the leaf's dtype.
    """

    def init(params: optax.Params) -> PyTree:
        fresh = [optax.tree.full_like(params, initial) for _ in kind._fields[1:]]
        return kind(jnp.zeros([], jnp.int32), *fresh)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        count = state.count + 1

        def row(gradient: jax.Array, *slots: jax.Array) -> tuple[jax.Array, ...]:
            return step(count.astype(gradient.dtype), gradient, *slots)

        rows = jax.tree.map(row, updates, *state[1:])
        # `jax.tree.transpose` refuses a tree without leaves, such as a model without matrices.
        updates, *slots = (
            jax.tree.map(lambda _, row, index=index: row[index], updates, rows)
            for index in range(len(kind._fields))
        )
        return updates, kind(count, *slots)

    return optax.GradientTransformation(init, update)


def lerp(old: jax.Array, new: jax.Array, share: float) -> jax.Array:
    """Moving average in which `new` has the weight `share`."""
    return old + share * (new - old)


def bias_correction(beta: float, time: jax.Array) -> jax.Array:
    """1 - βᵗ in the full precision of its dtype.

    optax subtracts in float32, which costs 1e-5 at β = 0.999. In -expm1(t·log β) the logarithm is taken in
    double precision and nothing cancels.
    """
    return -jnp.expm1(time * (log(beta) if beta else -jnp.inf))
