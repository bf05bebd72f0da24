"""Normalisation as torch defines it: epsilon, running variance, two passes, and never in half precision."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last, the channels.

    Flax's own keeps the biased variance of a batch, torch's the unbiased one: n / (n - 1) times as much.

    Args:
        momentum: weight of the new value in the running statistics (torch's meaning; Flax's is the old's).
        epsilon: added to the variance.
        param_dtype: type of parameters and statistics.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, …, channels]` to the same; statistics of the batch when training.

        Raises:
            ValueError: training on one value per channel, which has no variance.
        """
        shape, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        scale = self.param("scale", nn.initializers.ones, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, self.param_dtype)
        wide = _wide(x)
        if train:
            count = x.size // x.shape[-1]
            if count == 1:
                raise ValueError("batch normalisation needs more than one value per channel")
            mean, var = wide.mean(axes), wide.var(axes)
            for running, new in ((running_mean, mean), (running_var, var * count / (count - 1))):
                running.value = running.value + self.momentum * (new - running.value)
        else:
            mean, var = running_mean.value, running_var.value
        y = (wide - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        return y.astype(x.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) over the last axis.

    Args:
        epsilon: added to the variance (torch's default; Flax's is 1e-6).
        param_dtype: type of parameters.
    """

    epsilon: float = 1e-5
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[…, features]` to the same."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        wide = _wide(x)
        mean, var = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
        y = (wide - mean) * jax.lax.rsqrt(var + self.epsilon) * scale + bias
        return y.astype(x.dtype)


def _wide(x: jax.Array) -> jax.Array:
    """In float32 at least, where statistics are taken."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
