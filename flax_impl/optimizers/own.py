"""What the optimizers that optax lacks, or has otherwise than torch, are made of."""

from collections.abc import Callable
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import optax

Step = Callable[..., tuple[jax.Array, ...]]


def own(state: type, step: Step, initial: float = 0.0) -> optax.GradientTransformation:
    """A transformation of each leaf by itself.

    Args:
        state: a NamedTuple of `count` and the slots, by their canonical names.
        step: a function of (time, gradient, *slots) of one leaf, to (update, *slots). Time is the
            number of updates, this one included, in the leaf's number type.
        initial: value of the slots before the first update.
    """

    def init(params: optax.Params) -> Any:
        slots = (
            jax.tree.map(lambda leaf: jnp.full_like(leaf, initial), params)
            for _ in state._fields[1:]
        )
        return state(jnp.zeros([], jnp.int32), *slots)

    def update(
        gradients: optax.Updates, old: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Any]:
        count = old.count + 1
        rows = jax.tree.map(
            lambda gradient, *slots: step(count.astype(gradient.dtype), gradient, *slots),
            gradients,
            *old[1:],
        )
        updates, *slots = (
            jax.tree.map(lambda _, row, index=index: row[index], gradients, rows)
            for index in range(len(state._fields))
        )
        return updates, state(count, *slots)

    return optax.GradientTransformation(init, update)


def lerp(old: jax.Array, new: jax.Array, share: float) -> jax.Array:
    """A moving average that takes in a share of the new."""
    return old + share * (new - old)


def correction(beta: float, time: jax.Array) -> jax.Array:
    """1 - βᵗ with all digits of its number type.

    optax takes the difference in float32, which costs 1e-5 at β = 0.999; in -expm1(t·log β) the
    logarithm is taken in double precision and nothing cancels.
    """
    return -jnp.expm1(time * (log(beta) if beta else -jnp.inf))
