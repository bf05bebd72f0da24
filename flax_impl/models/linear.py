"""A linear map of the flattened sample."""

import flax.linen as nn
import jax

from flax_impl.layers import TypedModule, flatten
from pipeline.config.models import LinearConfig


class Linear(TypedModule):
    """Logits or predictions as a linear function of the input."""

    config: LinearConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` or `[batch, features]` to `[batch, outputs]`."""
        return nn.Dense(self.outputs, name="fc", **self.types)(flatten(x))
