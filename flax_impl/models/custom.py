"""A user's own model, by its import path."""

from functools import partial
from inspect import signature
from typing import Any

import flax.linen as nn
from flax import nnx

from flax_impl.adapters.from_nnx import FromNNX
from flax_impl.device import PyTree
from pipeline.config.models import OwnConfig
from pipeline.errors import UserError
from pipeline.training.model_checks import import_user_model, own_options
from pipeline.user_code import import_attribute


def import_model(
    config: OwnConfig, input_shape: tuple[int, ...], outputs: int, **dtypes: PyTree
) -> nn.Module:
    """Build the user's linen or NNX module from the input's shape, the number of outputs and its options.

    It takes images as `[batch, height, width, channels]`. Fields `dtype` and `param_dtype` of a linen module,
    if any, are set to the run's dtypes. An NNX module gets `rngs`, if it takes them.

    Raises:
        UserError: there is none at `model.jax`, or it does not take these arguments.
    """
    make = partial(_make, config, input_shape, outputs)
    made = make(nnx.Rngs(0))
    if isinstance(made, nnx.Module):
        return FromNNX(dtypes["dtype"], make)
    if not isinstance(made, nn.Module):
        problem = "it is neither a flax.linen.Module nor a flax.nnx.Module"
        raise UserError("model.jax", config.jax, problem=problem)
    return made.clone(**{name: dtype for name, dtype in dtypes.items() if hasattr(made, name)})


def _make(config: OwnConfig, input_shape: tuple[int, ...], outputs: int, rngs: nnx.Rngs) -> Any:
    """Call what the user names, which may take `rngs`."""
    options = own_options(config, "model.jax")
    if config.jax and "rngs" in _parameters(import_attribute(config.jax, "model.jax")):
        options["rngs"] = rngs
    return import_user_model("model.jax", config.jax, input_shape, outputs, options)


def _parameters(function: object) -> set[str]:
    call = function.__init__ if isinstance(function, type) else function
    try:
        return set(signature(call).parameters)  # pyrefly: ignore[bad-argument-type] or a TypeError
    except (TypeError, ValueError):
        return set()
