"""A user's own model, by its import path."""

from typing import Any

import flax.linen as nn

from pipeline.config import OwnConfig
from pipeline.models import imported


def own(config: OwnConfig, input_shape: tuple[int, ...], outputs: int, **dtypes: Any) -> nn.Module:
    """The user's `flax.linen.Module`, called with the input's shape, the outputs and its options.

    It takes images as `[batch, height, width, channels]`; where it has fields `dtype` and
    `param_dtype`, it is told the run's number types.

    Raises:
        UserError: there is none at `model.jax`, or it does not take these arguments.
    """
    made = imported("model.jax", config.jax, input_shape, outputs, config.options)
    return made.clone(**{name: dtype for name, dtype in dtypes.items() if hasattr(made, name)})
