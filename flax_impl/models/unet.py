"""A U-Net (Ronneberger et al. 2015) with the residual blocks of DDPM (Ho et al. 2020)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.layers import TypedModule
from flax_impl.norms import GroupNorm
from flax_impl.randomness import Dropout
from pipeline.config.models import UNetConfig
from pipeline.training.model_checks import frequencies


class Time(TypedModule):
    """Embedding of a whole number: sines and cosines (Vaswani et al. 2017), and two dense layers."""

    width: int

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        """`[batch]` to `[batch, 4·width]`."""
        angles = time[:, None] * jnp.asarray(frequencies(self.width), self.param_dtype)
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, : self.width]
        x = nn.silu(nn.Dense(4 * self.width, name="fc1", **self.types)(waves))
        return nn.Dense(4 * self.width, name="fc2", **self.types)(x)


class Block(TypedModule):
    """Two 3×3 convolutions, each after a group norm, and a shortcut; the time is added between them."""

    config: UNetConfig
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array | None, train: bool = False) -> jax.Array:
        """`[batch, height, width, inside]` and an embedding to `[batch, height, width, channels]`."""
        config, channels, types = self.config, self.channels, self.types
        norm = {"num_groups": config.groups, "param_dtype": self.param_dtype}
        # Explicit padding: Flax's 'SAME' may pad unevenly, torch's padding does not.
        y = nn.silu(GroupNorm(name="norm1", **norm)(x))
        y = nn.Conv(channels, (3, 3), 1, 1, name="conv1", **types)(y)
        if config.time and time is not None:
            added = nn.Dense(channels, name="time", **types)(nn.silu(time))
            y = y + added[:, None, None, :]
        y = nn.silu(GroupNorm(name="norm2", **norm)(y))
        y = Dropout(config.dropout, name="dropout")(y, train)
        y = nn.Conv(channels, (3, 3), 1, 1, name="conv2", **types)(y)
        if x.shape[-1] != channels:
            x = nn.Conv(channels, (1, 1), 1, 0, name="shortcut", **types)(x)
        return y + x


class UNet(TypedModule):
    """Levels of half the size each, down and up again; each hands its maps to its other side."""

    config: UNetConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """`[batch, height, width, channels]`, and `[batch]`, to `[batch, height, width, outputs]`."""
        config, types, kept = self.config, self.types, []
        *levels, last = (config.width * 2**level for level in range(config.depth + 1))
        embedding = None
        if config.time and time is not None:
            embedding = Time(config.width, name="time", **types)(time)
        x = nn.Conv(config.width, (3, 3), 1, 1, name="stem", **types)(x)
        for level, channels in enumerate(levels):
            x = Block(config, channels, name=f"down.{level}", **types)(x, embedding, train)
            kept.append(x)
            x = nn.Conv(channels, (3, 3), 2, 1, name=f"pool.{level}", **types)(x)
        x = Block(config, last, name="middle", **types)(x, embedding, train)
        for level, channels in reversed([*enumerate(levels)]):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = nn.Conv(channels, (3, 3), 1, 1, name=f"rise.{level}", **types)(x)
            x = jnp.concatenate([x, kept[level]], axis=-1)
            x = Block(config, channels, name=f"up.{level}", **types)(x, embedding, train)
        x = GroupNorm(config.groups, param_dtype=self.param_dtype, name="norm")(x)
        return nn.Conv(self.outputs, (3, 3), 1, 1, name="head", **types)(nn.silu(x))
