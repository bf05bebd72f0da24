"""LeNet-5's architecture: two convolutions with max-pools, then dense layers (LeCun et al. 1998)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.layers import ACTIVATIONS, TypedModule, flatten, max_pool
from pipeline.config.models import CNNConfig
from pipeline.training.model_checks import input_padding


class CNN(TypedModule):
    """Two square convolutions, each with a 2×2 max-pool, and three dense layers."""

    config: CNNConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        size, padding = self.config.kernel_size, self.config.padding
        activation, last = ACTIVATIONS[self.config.activation], len(self.config.hidden)
        x = jnp.pad(x, ((0, 0), *input_padding(self.config, self.input_shape), (0, 0)))
        for index, channels in enumerate(self.config.channels, start=1):
            # Explicit padding: Flax's 'SAME' may pad unevenly, torch's padding does not.
            convolution = nn.Conv(
                channels, (size, size), padding=padding, name=f"conv{index}", **self.types
            )
            x = max_pool(activation(convolution(x)), 2, 2)
        x = flatten(x)
        for index, width in enumerate(self.config.hidden):
            x = activation(nn.Dense(width, name=f"fc.{index}", **self.types)(x))
        return nn.Dense(self.outputs, name=f"fc.{last}", **self.types)(x)
