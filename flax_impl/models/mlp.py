"""Dense layers of any width, with an activation between them."""

import flax.linen as nn
import jax

from flax_impl.layers import ACTIVATIONS, TypedModule, flatten
from pipeline.config.models import MLPConfig


class MLP(TypedModule):
    """A multi-layer perceptron on the flattened sample."""

    config: MLPConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` or `[batch, features]` to `[batch, outputs]`."""
        activation, last = ACTIVATIONS[self.config.activation], len(self.config.hidden)
        x = flatten(x)
        for index, width in enumerate(self.config.hidden):
            x = activation(nn.Dense(width, name=f"layers.{index}", **self.types)(x))
        return nn.Dense(self.outputs, name=f"layers.{last}", **self.types)(x)
