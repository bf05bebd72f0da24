"""Models of JAX under check, for `pipeline.verify`."""

import inspect
import os
from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.nnx import Rngs

from flax_impl.adapters.keywords import KEYS
from flax_impl.device import CACHE
from flax_impl.verify.adapters import equinox, functions, linen, nnx
from flax_impl.verify.native import to_native
from flax_impl.verify.subject import FunctionSubject
from pipeline.errors import UserError
from pipeline.verify.sides.channels import Channels, open_in_layout
from pipeline.verify.sides.loss import Loss, inputs_of_model
from pipeline.verify.sides.subject import Inputs, Subject

ADAPTERS = (linen, nnx, equinox, functions)
KINDS = (
    "a Flax linen or NNX module, an Equinox module (with its state: a pair (model, state)), "
    "or a pair of functions (init, apply)"
)


def prepare(threads: int) -> None:
    """Set JAX to float64 on some cores of the CPU; call it before the first array is made."""
    os.environ["NPROC"] = str(threads)  # the size of XLA's thread pools
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    # Operations are compiled one by one: all of them are kept, however fast that was.
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def random_keywords(names: Collection[str]) -> dict[str, object]:
    """Return the generators of random numbers among a function's arguments, by their names."""
    keys: dict[str, object] = {name: jax.random.key(0) for name in names if name in KEYS}
    return keys | ({"rngs": Rngs(0)} if "rngs" in names else {})


def open_subject(
    made: object,
    inputs: Inputs,
    keywords: Mapping[str, object],
    layouts: Mapping[str, str],
    loss: Loss | None = None,
) -> Subject:
    """Return a JAX model of any kind under check, once it has run on its inputs.

    `layouts` has the layout of the inputs that are images, `NCHW` or `NHWC`, by their names.

    Raises:
        UserError: the model is of no known kind, or refuses the inputs.
    """
    adapter = next((adapter for adapter in ADAPTERS if adapter.matches(made)), None)
    if adapter is None:
        raise UserError("model", f"an object of type {type(made).__name__}", allowed=KINDS)

    def attempt(taken: Channels) -> FunctionSubject:
        given = inputs_of_model(to_native(taken.turn(inputs)), _parameters(made), loss)
        function = adapter.adapt(made, given, keywords)
        subject = FunctionSubject(function, taken, loss, frozenset(given))
        subject.try_out(inputs)
        return subject

    return open_in_layout(attempt, _name(made), inputs, layouts, adapter.layout(made))


def _parameters(made: Any) -> list[str]:
    """Return the names of what a model is called with."""
    call = made
    if isinstance(made, tuple | list):
        bound = getattr(made[0], "__self__", None)
        call = bound or (made[1] if callable(made[1]) else made[0])
    elif hasattr(made, "apply") and not isinstance(made, nn.Module):
        call = made.apply
    is_model = not inspect.isroutine(call)
    return [*inspect.signature(call.__call__ if is_model else call).parameters]


def _name(made: object) -> str:
    """Return the name of a model's class, or those of a pair."""
    if not isinstance(made, tuple):
        return type(made).__name__
    names = (getattr(part, "__name__", type(part).__name__) for part in made)
    return f"({', '.join(names)})"
