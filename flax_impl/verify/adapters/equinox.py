"""Adapter of Equinox modules, imported only for such a module: Equinox is no dependency."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import source_info_util

from flax_impl.adapters.equinox_module import (
    axis_of,
    is_equinox,
    is_pair,
    modules_of,
    named_state,
    with_state,
)
from flax_impl.adapters.keywords import KEYS, training_keywords
from flax_impl.adapters.scopes import named
from flax_impl.adapters.tree import Tree
from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import Function, bind
from pipeline.verify.sides.channels import FIRST


def matches(made: object) -> bool:
    """Return True for an Equinox module, and for a pair of one and its state."""
    return is_equinox(made) or is_pair(made)


def layout(made: object) -> str:
    """Return the layout in which it takes images, most likely."""
    del made
    return FIRST


def adapt(made: Any, inputs: Mapping[str, PyTree], keywords: Mapping[str, object]) -> Function:
    """Return an Equinox module as a pure function; all its arrays of floats are parameters.

    It is called on one sample at a time, vmapped over the batch, if it accepts one; else on the batch.
    """
    import equinox as eqx

    source_info_util.register_exclusion(eqx.__path__[0])  # its frames are not the user's code
    module, own = with_state(made)
    params = Tree.of(module, "params", eqx.is_array)
    state = named_state(module, own)
    names = inspect.signature(module.__call__).parameters
    has_state = bool(state.places) or is_pair(made)

    def call(model: Any, key: jax.Array, before: Any, inputs: PyTree, training: bool) -> PyTree:
        args, kwargs = bind(model.__call__, inputs)
        kwargs |= training_keywords(model.__call__, training, keywords)
        kwargs |= {name: key for name in KEYS if name in names and name not in keywords}
        if has_state and "state" in names:
            kwargs["state"] = before
        elif has_state:
            args = (*args, before)
        output = model(*args, **kwargs, **keywords)
        return output if has_state else (output, before)

    def run(vmapped: bool, arrays: PyTree, inputs: PyTree, training: bool) -> PyTree:
        model = eqx.nn.inference_mode(params.filled(arrays), value=not training)
        before, key = state.filled(arrays), jax.random.key(0)
        with named(dict(modules_of(model))):
            if not vmapped:
                return call(model, key, before, inputs, training)
            every = list(inputs.values())
            batch = len(every[0])
            return jax.vmap(
                lambda key, *each: call(
                    model, key, before, dict(zip(inputs, each, strict=True)), training
                ),
                in_axes=(0, *(0 if x.ndim and len(x) == batch else None for x in every)),
                out_axes=(0, None),
                axis_name=axis_of(model),
            )(jax.random.split(key, batch), *every)

    arrays = {name: jnp.asarray(array) for name, array in (params.arrays | state.arrays).items()}
    vmapped = _is_vmapped(run, arrays, inputs)

    def apply(arrays: PyTree, inputs: PyTree, training: bool) -> tuple[PyTree, PyTree]:
        output, after = run(vmapped, arrays, inputs, training)
        return output, state.read(after)

    trained = [n for n in params.places if jnp.issubdtype(arrays[n].dtype, jnp.floating)]
    note = "one sample at a time, vmapped" if vmapped else "the whole batch"
    return Function("equinox.Module", arrays, frozenset(trained), apply, (f"is called on {note}",))


def _is_vmapped(run: Callable, arrays: PyTree, inputs: PyTree) -> bool:
    """True if a module accepts a single sample, or refuses the batch as well."""
    for vmapped in (True, False):
        try:
            jax.eval_shape(lambda arrays: run(vmapped, arrays, inputs, False), arrays)  # noqa: B023
        except Exception:  # of the user's model: of any kind
            continue
        return vmapped
    return True
