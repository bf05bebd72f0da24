"""Dense layers of any width, with an activation between them."""

from typing import Any

import flax.linen as nn
import jax

from flax_impl.layers import ACTIVATIONS, flatten
from pipeline.config import MLPConfig


class MLP(nn.Module):
    """A multi-layer perceptron on the flattened sample."""

    config: MLPConfig
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` or `[batch, features]` to `[batch, outputs]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        activation, last = ACTIVATIONS[self.config.activation], len(self.config.hidden)
        x = flatten(x)
        for index, width in enumerate(self.config.hidden):
            x = activation(nn.Dense(width, name=f"layers.{index}", **types)(x))
        return nn.Dense(self.outputs, name=f"layers.{last}", **types)(x)
