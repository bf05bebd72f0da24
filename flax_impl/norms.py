"""Normalisation by torch's definition: epsilon, running variance, two passes, never in half precision."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.device import DType


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last, the channels.

    Flax's own keeps the biased variance of a batch, torch's the unbiased one: n / (n - 1) times as much.
    `param_dtype` is the dtype of parameters and statistics.
    """

    momentum: float = 0.1  # weight of the new value, as in torch; in Flax, of the old one
    epsilon: float = 1e-5
    param_dtype: DType | None = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, …, channels]` to the same; statistics of the batch in training.

        Raises:
            ValueError: training on one value per channel, which has no variance.
        """
        shape, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        scale = self.param("scale", nn.initializers.ones, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, self.param_dtype)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
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


class LayerNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al. 2016) over the last axis, with torch's epsilon.

    Its variance takes two passes: Flax's default, E[x²] - E[x]², loses digits.
    """

    epsilon: float = 1e-5
    use_fast_variance: bool = False


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) over groups of channels and all places, with torch's epsilon.

    Its variance takes two passes, as that of `LayerNorm`.
    """

    epsilon: float = 1e-5
    use_fast_variance: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, …, channels]` to the same."""
        return super().__call__(x).astype(x.dtype)
