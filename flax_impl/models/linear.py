"""A linear map of the flattened sample."""

from typing import Any

import flax.linen as nn
import jax

from flax_impl.layers import flatten
from pipeline.config import LinearConfig


class Linear(nn.Module):
    """Logits or predictions as a linear function of the input."""

    config: LinearConfig
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` or `[batch, features]` to `[batch, outputs]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        return nn.Dense(self.outputs, name="fc", **types)(flatten(x))
