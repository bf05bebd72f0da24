"""Attention of long sequences, some queries at a time."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flax_impl.randomness import draw_mask
from flax_impl.vectorized.number import Number, typed

PART = 128  # queries whose softmax is in memory at a time


class Long(NamedTuple):
    """Attention of a long sequence."""

    attend: Callable[..., jax.Array]  # of some queries, with the softmax written out
    causal: bool
    rate: float | Number  # of the dropout of the softmax
    name: str  # of the layer that draws it

    def attend_from(
        self,
        first: jax.Array,
        length: int,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        seen: jax.Array | None,
        rng: jax.Array | None,
    ) -> jax.Array:
        """Attention of queries from the `first` on, of a sequence of some length."""
        if self.causal:
            seen = first + jnp.arange(query.shape[2])[:, None] >= jnp.arange(key.shape[2])

        def drop(weights: jax.Array) -> jax.Array:
            if rng is None:
                return weights
            kept = draw_mask(rng, self.name, self.rate, weights.shape, (first, length))
            share = typed(1 - self.rate, weights.dtype)
            return jnp.where(kept, weights / share, jnp.zeros_like(weights))

        return self.attend(query, key, value, False, seen, drop)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend_by_parts(
    long: Long,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    seen: jax.Array | None,
    rng: jax.Array | None,
) -> jax.Array:
    """`attend`, some queries at a time: the memory grows with the length, and not with its square.

    `rng` is the key of the dropout; without one there is none. Only here: torch has such kernels for each
    device.
    """
    length = query.shape[2]
    mixed = jax.lax.map(
        lambda part: long.attend_from(part[0], length, part[1], key, value, seen, rng),
        _cut(query),
    )
    return _join(mixed, length)


def _forward(
    long: Long, *inputs: jax.Array | None
) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
    return attend_by_parts(long, *inputs), inputs


def _backward(
    long: Long, inputs: tuple[jax.Array, ...], gradient: jax.Array
) -> tuple[jax.Array | None, ...]:
    """Compute each part's softmax again, and sum the gradients of keys and values in float32 at least."""
    query, key, value, seen, rng = inputs
    length, wide = query.shape[2], jnp.promote_types(query.dtype, jnp.float32)
    firsts, parts = _cut(query)
    # The barrier keeps the compiler from making the zeros of all layers at the start of the step.
    zeros = jnp.zeros_like(parts), jnp.zeros_like(key, wide), jnp.zeros_like(value, wide)
    zeros, gradient = jax.lax.optimization_barrier((zeros, gradient))

    def add(sums: tuple, part: tuple) -> tuple[tuple, None]:
        index, first, query, gradient = part

        def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return long.attend_from(first, length, query, key, value, seen, rng)

        _, pull = jax.vjp(attend, query, key, value)
        own, *others = pull(gradient)
        queries = jax.lax.dynamic_update_index_in_dim(sums[0], own, index, 0)
        return (queries, *(old + new for old, new in zip(sums[1:], others, strict=True))), None

    numbers = jnp.arange(len(firsts))
    (parts, *others), _ = jax.lax.scan(add, zeros, (numbers, firsts, parts, _cut(gradient)[1]))
    return _join(parts, length), *(sum_.astype(key.dtype) for sum_ in others), None, None


attend_by_parts.defvjp(_forward, _backward)


def _cut(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cut `[batch, heads, length, d]` into `[parts, batch, heads, size, d]`, and say where each begins."""
    batch, heads, length, width = x.shape
    parts = -(-length // PART)
    size = -(-length // parts)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, parts * size - length), (0, 0)))
    x = jnp.moveaxis(x.reshape(batch, heads, parts, size, width), 2, 0)
    return size * jnp.arange(parts), x


def _join(x: jax.Array, length: int) -> jax.Array:
    """Inverse of `_cut`."""
    _, batch, heads, _, width = x.shape
    return jnp.moveaxis(x, 0, 2).reshape(batch, heads, -1, width)[:, :, :length]
