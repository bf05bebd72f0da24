"""A user's own model, by its import path."""

import flax.linen as nn

from flax_impl.device import PyTree
from pipeline.config.models import OwnConfig
from pipeline.errors import UserError
from pipeline.training.model_checks import import_user_model


def import_model(
    config: OwnConfig, input_shape: tuple[int, ...], outputs: int, **dtypes: PyTree
) -> nn.Module:
    """Build the user's `flax.linen.Module` from the input's shape, the number of outputs and its options.

    It takes images as `[batch, height, width, channels]`. Its fields `dtype` and `param_dtype`, if any, are
    set to the run's dtypes.

    Raises:
        UserError: there is none at `model.jax`, or it does not take these arguments.
    """
    made = import_user_model("model.jax", config.jax, input_shape, outputs, config.options)
    if not isinstance(made, nn.Module):
        raise UserError("model.jax", config.jax, problem="it is no flax.linen.Module")
    return made.clone(**{name: dtype for name, dtype in dtypes.items() if hasattr(made, name)})
