"""Adapter of Flax NNX modules."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from flax_impl.adapters.from_nnx import value_of, with_value
from flax_impl.adapters.keywords import training_keywords
from flax_impl.adapters.scopes import named
from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import Function, bind
from pipeline.verify.sides.channels import LAST


def matches(made: object) -> bool:
    """Return True for an NNX module."""
    return isinstance(made, nnx.Module)


def layout(made: object) -> str:
    """Return the layout in which it takes images, most likely."""
    del made
    return LAST


def adapt(made: Any, inputs: Mapping[str, PyTree], keywords: Mapping[str, object]) -> Function:
    """Return an NNX module as a pure function; parameters are its variables of the type `nnx.Param`."""
    del inputs  # its variables are there already
    graph, state = nnx.split(made)
    variables = {_name(path): (path, variable) for path, variable in nnx.to_flat_state(state)}
    # A module may be called with the generator of its random numbers, instead of holding it.
    takes_rngs = "rngs" in inspect.signature(made.__call__).parameters and "rngs" not in keywords

    def apply(arrays: PyTree, inputs: PyTree, training: bool) -> tuple[PyTree, PyTree]:
        pairs = [(path, with_value(v, arrays[name])) for name, (path, v) in variables.items()]
        model = nnx.merge(graph, nnx.from_flat_state(pairs))
        model.train() if training else model.eval()
        args, kwargs = bind(model.__call__, inputs)
        kwargs |= training_keywords(model.__call__, training, keywords)
        if takes_rngs:
            kwargs["rngs"] = nnx.Rngs(jax.random.key(0))
        with named({_name(path): module for path, module in nnx.iter_modules(model)}):
            output = model(*args, **kwargs, **keywords)
        after = {_name(path): value_of(v) for path, v in nnx.to_flat_state(nnx.state(model))}
        return output, {name: after[name] for name in variables if name not in trained}

    arrays = {name: value_of(variable) for name, (_, variable) in variables.items()}
    trained = frozenset(n for n, (_, v) in variables.items() if isinstance(v, nnx.Param))
    return Function("flax.nnx.Module", arrays, trained, apply)


def _name(path: tuple[object, ...]) -> str:
    return ".".join(map(str, path))
