"""The smallest convolutional network: one convolution, one pool, one dense layer."""

from typing import Any

import flax.linen as nn
import jax

from flax_impl.layers import flatten
from pipeline.config import SimpleCNNConfig


class SimpleCNN(nn.Module):
    """A 3×3 convolution with relu, a 2×2 max-pool and a dense layer."""

    config: SimpleCNNConfig
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        convolution = nn.Conv(self.config.channels, (3, 3), padding=1, name="conv", **types)
        x = nn.max_pool(nn.relu(convolution(x)), (2, 2), strides=(2, 2))
        return nn.Dense(self.outputs, name="fc", **types)(flatten(x))
