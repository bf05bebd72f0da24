"""The smallest convolutional network: one convolution, one pool, one dense layer."""

import flax.linen as nn
import jax

from flax_impl.layers import TypedModule, flatten, max_pool
from pipeline.config.models import SimpleCNNConfig


class SimpleCNN(TypedModule):
    """A 3×3 convolution with relu, a 2×2 max-pool and a dense layer."""

    config: SimpleCNNConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        convolution = nn.Conv(self.config.channels, (3, 3), padding=1, name="conv", **self.types)
        x = max_pool(nn.relu(convolution(x)), 2, 2)
        return nn.Dense(self.outputs, name="fc", **self.types)(flatten(x))
