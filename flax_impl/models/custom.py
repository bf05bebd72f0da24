"""A user's own model, by its import path."""

from functools import partial
from inspect import signature
from typing import Any

import flax.linen as nn
import jax

from flax_impl.adapters.equinox_module import is_equinox, is_pair
from flax_impl.adapters.from_equinox import FromEquinox, Template
from flax_impl.device import PyTree
from pipeline.config.models import OwnConfig
from pipeline.training.model_calls import calling
from pipeline.training.model_checks import import_user_model, own_options
from pipeline.user_code import import_attribute, wrong_module


def import_model(
    config: OwnConfig, input_shape: tuple[int, ...], outputs: int, **dtypes: PyTree
) -> nn.Module:
    """Build the user's module from the input's shape, the number of outputs and its options.

    A linen or NNX module takes images as `[batch, height, width, channels]`, an Equinox module one image as
    `[channels, height, width]`. Fields `dtype` and `param_dtype` of a linen module, if any, are set to the
    run's dtypes. An NNX module gets `rngs`, if it takes them, an Equinox module `key`.

    Raises:
        UserError: there is none at `model.jax`, or it does not take these arguments.
    """
    from flax import nnx  # a tenth of a start, and for a user's own model alone

    from flax_impl.adapters.from_nnx import FromNNX

    make = partial(_make, config, input_shape, outputs)
    made = make(jax.random.key(0))
    if isinstance(made, nnx.Module):
        return FromNNX(dtypes["dtype"], make)
    if is_equinox(made) or is_pair(made):
        return FromEquinox(dtypes["dtype"], make, Template(made), partial(calling, config))
    if not isinstance(made, nn.Module):
        wanted = "flax.linen.Module, flax.nnx.Module or equinox.Module"
        raise wrong_module("model.jax", config.jax, made, wanted)
    return made.clone(**{name: dtype for name, dtype in dtypes.items() if hasattr(made, name)})


def _make(config: OwnConfig, input_shape: tuple[int, ...], outputs: int, key: jax.Array) -> Any:
    """Call what the user names, which may take `rngs` of NNX, or the `key` of Equinox."""
    options = own_options(config, "model.jax")
    if config.jax:
        named = import_attribute(config.jax, "model.jax")
        taken = _parameters(named)
        if "rngs" in taken:
            from flax import nnx

            options["rngs"] = nnx.Rngs(key)
        if "key" in taken and not (isinstance(named, type) and issubclass(named, nn.Module)):
            options["key"] = key
    return import_user_model("model.jax", config.jax, input_shape, outputs, options)


def _parameters(function: object) -> set[str]:
    call = function.__init__ if isinstance(function, type) else function
    try:
        return set(signature(call).parameters)  # pyrefly: ignore[bad-argument-type] or a TypeError
    except (TypeError, ValueError):
        return set()
