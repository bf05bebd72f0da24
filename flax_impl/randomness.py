"""Dropout and drop-path, whose masks depend on what they are for: (seed, step, part, layer)."""

from zlib import crc32

import flax.linen as nn
import jax
import jax.numpy as jnp

from pipeline.config import Config, Randomness
from pipeline.draws import key_words

# Counter-based both. Threefry (Salmon et al. 2011) is what the torch side can draw too; the other is
# whatever the device does fastest.
GENERATORS = {Randomness.shared: "threefry2x32", Randomness.native: "rbg"}


def step_key(config: Config, step: jax.Array, part: jax.Array | int = 0) -> jax.Array:
    """The key of one part of the batch after `step` updates; layers fold their names into it."""
    generator = GENERATORS[config.train.randomness]
    words = key_words(config.seed, "dropout")
    data = jnp.array(words if generator == "threefry2x32" else words * 2, jnp.uint32)
    key = jax.random.wrap_key_data(data, impl=generator)
    return jax.random.fold_in(jax.random.fold_in(key, step), part)


class Dropout(nn.Module):
    """Zeros each number with probability `rate`, and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the "inverted" form of both libraries.

    Args:
        rate: of the numbers, or of whatever shares one draw.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Any shape to the same."""
        if not train or self.rate == 0:
            return x
        # The run's key as it was given to `apply`: Flax would fold a path of its own kind into it.
        key = self.scope.rngs["dropout"].rng
        key = jax.random.fold_in(key, crc32(".".join(self.path).encode()))
        bits = jax.random.bits(key, self.mask_shape(x), jnp.uint32)
        kept = bits >= jnp.uint32(round(self.rate * (2**32 - 1)))
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros_like(x))

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """One draw for each number."""
        return x.shape


class DropPath(Dropout):
    """Zeros whole samples of a residual branch (stochastic depth, Huang et al. 2016)."""

    def mask_shape(self, x: jax.Array) -> tuple[int, ...]:
        """One draw for each sample."""
        return (len(x),) + (1,) * (x.ndim - 1)
