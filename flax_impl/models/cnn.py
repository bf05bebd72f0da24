"""LeNet-5's shape: two convolutions with max-pools, then dense layers (LeCun et al. 1998)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.layers import ACTIVATIONS, flatten
from pipeline.config import CNNConfig
from pipeline.models import margins


class CNN(nn.Module):
    """Two square convolutions, each with a 2×2 max-pool, and three dense layers."""

    config: CNNConfig
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        size, padding = self.config.kernel_size, self.config.padding
        activation, last = ACTIVATIONS[self.config.activation], len(self.config.hidden)
        x = jnp.pad(x, ((0, 0), *margins(self.config, self.input_shape), (0, 0)))
        for index, channels in enumerate(self.config.channels, start=1):
            # Explicit numbers: Flax's 'SAME' pads unevenly where torch's padding does not.
            convolution = nn.Conv(
                channels, (size, size), padding=padding, name=f"conv{index}", **types
            )
            x = nn.max_pool(activation(convolution(x)), (2, 2), strides=(2, 2))
        x = flatten(x)
        for index, width in enumerate(self.config.hidden):
            x = activation(nn.Dense(width, name=f"fc.{index}", **types)(x))
        return nn.Dense(self.outputs, name=f"fc.{last}", **types)(x)
