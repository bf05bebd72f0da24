"""Dropout and drop-path with masks that depend only on the seed, step, micro-batch and layer."""

from math import prod
from zlib import crc32

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p

from flax_impl.vectorized.number import Number, typed
from pipeline.config.experiment import Config
from pipeline.config.train import Randomness
from pipeline.rng import key_words

# Scope of the masks that torch has, too, if they are shared.
SHARED = "shared_mask"
Rows = tuple[jax.Array, int]  # the first of some rows, the last axis but one, and the number of all
# Both are counter-based. The torch side implements Threefry (Salmon et al. 2011) too; the other is the
# device's fastest.
GENERATORS = {Randomness.shared: "threefry2x32", Randomness.native: "rbg"}


def step_key(
    config: Config,
    step: jax.Array | int,
    part: jax.Array | int = 0,
    words: jax.Array | None = None,
    devices: int = 1,
) -> jax.Array:
    """Key of one micro-batch after `step` updates; layers fold their names into it.

    `words` are the two of the run's seed, if it is one of several that train at once. On several devices
    masks are always the shared ones: of the device's own generator each would draw those of all.
    """
    randomness = config.train.randomness if devices == 1 else Randomness.shared
    generator = GENERATORS[randomness]
    own = jnp.array(key_words(config.seed, "dropout"), jnp.uint32) if words is None else words
    data = jnp.tile(own, 1 if generator == "threefry2x32" else 2)
    key = jax.random.wrap_key_data(data, impl=generator)
    return jax.random.fold_in(jax.random.fold_in(key, step), part)


def draw_mask(
    key: jax.Array,
    name: str,
    rate: float | Number,
    shape: tuple[int, ...],
    rows: Rows | None = None,
) -> jax.Array:
    """Draw what a layer keeps: each number with probability 1 - `rate`.

    With `rows` the mask is a part of a larger one; the device's own generator draws each part from a key of
    its own.
    """
    with jax.named_scope(SHARED):
        key = jax.random.fold_in(key, crc32(name.encode()))
        if rows is None:
            bits = _draw_bits(key, shape)
        elif jax.random.key_impl(key) == "rbg":
            bits = _draw_bits(jax.random.fold_in(key, rows[0]), shape)
        else:
            bits = _draw_rows(key, shape, rows)
    return bits >= jnp.uint32(typed(round(rate * (2**32 - 1)), jnp.uint32))


def _draw_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draw 32 bits for each number; with several keys under `vmap`, the same for each as for it alone.

    `vmap` would draw all numbers of the device's own generator from the first key.
    """
    generator = jax.random.key_impl(key)
    if generator != "rbg":
        return jax.random.bits(key, shape, jnp.uint32)

    @jax.custom_batching.sequential_vmap
    def draw(data: jax.Array) -> jax.Array:
        return jax.random.bits(jax.random.wrap_key_data(data, impl="rbg"), shape, jnp.uint32)

    return draw(jax.random.key_data(key))


def _draw_rows(key: jax.Array, shape: tuple[int, ...], rows: Rows) -> jax.Array:
    """Draw some rows of `jax.random.bits`, which counts the numbers of an array in 64 bits."""
    first, total = rows
    *leading, height, width = shape
    matrix = jnp.arange(prod(leading), dtype=jnp.uint32).reshape(*leading, 1, 1)
    row = matrix * total + first.astype(jnp.uint32)
    row = row + jnp.arange(height, dtype=jnp.uint32)[:, None]
    column = jnp.arange(width, dtype=jnp.uint32)
    # row · width + column, of two halves of 16 bits
    upper, lower = (row >> 16) * width, (row & 0xFFFF) * width
    low = row * width + column
    high = (upper + (lower >> 16) >> 16) + (low < column)
    counters = (jnp.broadcast_to(half, shape) for half in (high, low))
    # The operation itself: `threefry_2x32` puts all numbers in a row, which devices would have to exchange.
    left, right = threefry2x32_p.bind(*jax.random.key_data(key), *counters)
    return left ^ right


class Dropout(nn.Module):
    """Zeros each number with probability `rate`, and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the "inverted" form of both libraries.
    """

    rate: float | Number

    @property
    def key(self) -> jax.Array:
        """The key as passed to `apply`: `make_rng` would fold Flax's own path into it."""
        assert self.scope is not None
        return self.scope.rngs["dropout"].rng  # pyrefly: ignore[missing-attribute] a LazyRng in a bound module

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Return `x` with some numbers at zero, in the same shape."""
        if not train or self.rate == 0:
            return x
        kept = draw_mask(self.key, ".".join(self.path), self.rate, self.mask_shape(x))
        return jnp.where(kept, x / typed(1 - self.rate, x.dtype), jnp.zeros_like(x))

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """One draw for each number."""
        return x.shape


class DropPath(Dropout):
    """Zeros whole samples of a residual branch (stochastic depth, Huang et al. 2016)."""

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """One draw for each sample."""
        return (len(x),) + (1,) * (x.ndim - 1)
