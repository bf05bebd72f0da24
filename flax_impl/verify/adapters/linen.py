"""Adapter of Flax linen modules, alone or inside one of Hugging Face's models."""

import inspect
from collections.abc import Mapping
from copy import copy
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_impl.adapters.keywords import training_keywords
from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import Function, bind, evaluated
from flax_impl.verify.primitives.precision import narrowed
from pipeline.verify.sides.channels import FIRST, LAST

PARAMS = "params"
Paths = dict[str, tuple[str, ...]]  # of variables, by their names


def matches(made: object) -> bool:
    """Return True for a linen module, its two methods, and a model that holds it with its parameters."""
    return isinstance(_unbound(made), nn.Module) or _is_holder(made)


def layout(made: object) -> str:
    """Return the layout in which it takes images, most likely: Hugging Face's turn them themselves."""
    return FIRST if _is_holder(made) else LAST


def adapt(made: Any, inputs: Mapping[str, PyTree], keywords: Mapping[str, Any]) -> Function:
    """Return a linen module as a pure function; its variables are initialised from the inputs."""
    if _is_holder(made):
        return _adapt_holder(made, keywords)
    own = _unbound(made)
    made = _module_in(own, np.dtype(np.float64))
    try:
        variables = _initialised(made, inputs, keywords)
    except TypeError:  # its own float32 does not go with float64, such as the carry of a scan
        with jax.enable_x64(False):  # its own parameters may have JAX's default type
            variables = _initialised(own, narrowed(dict(inputs)), keywords)
    paths = _paths(variables)
    others = [collection for collection in variables if collection != PARAMS]

    def apply(arrays: PyTree, inputs: PyTree, training: bool) -> tuple[PyTree, PyTree]:
        args, named = bind(made.__call__, inputs)
        mode = training_keywords(made.__call__, training, keywords)
        # Without a key of its own name, a module takes that of the parameters.
        rngs = {name: jax.random.key(0) for name in (PARAMS, "dropout")}
        nested = unflatten_dict({paths[name]: array for name, array in arrays.items()})
        output, changed = _module_in(own, _dtype(arrays)).apply(
            nested, *args, **named, **mode, **keywords, rngs=rngs, mutable=others
        )
        return output, _by_name(nn.meta.unbox(changed), paths)

    return _function("flax.linen.Module", variables, paths, apply, own)


def _initialised(
    made: nn.Module, inputs: Mapping[str, PyTree], keywords: Mapping[str, Any]
) -> PyTree:
    args, named = bind(made.__call__, inputs)
    still = training_keywords(made.__call__, False, keywords)
    rngs = {name: jax.random.key(0) for name in (PARAMS, "dropout")}
    return nn.meta.unbox(evaluated(lambda: made.init(rngs, *args, **named, **still, **keywords)))


def _adapt_holder(made: Any, keywords: Mapping[str, Any]) -> Function:
    """One of Hugging Face's Flax models: called as its users do, with its own defaults."""
    given = made
    has_collections = PARAMS in given.params
    variables = dict(given.params) if has_collections else {PARAMS: given.params}
    paths = _paths(variables)

    def apply(arrays: PyTree, inputs: PyTree, training: bool) -> tuple[PyTree, PyTree]:
        made = _holder_in(given, _dtype(arrays))
        args, named = bind(made.__call__, inputs)
        mode = training_keywords(made.__call__, training, keywords)
        for name in inspect.signature(made.__call__).parameters:
            # Without training it asks for none of dropout, but maybe for others.
            if name.endswith("_rng") and (training or name != "dropout_rng"):
                mode[name] = jax.random.key(0)
        nested = unflatten_dict({paths[name]: array for name, array in arrays.items()})
        params = nested if has_collections else nested[PARAMS]
        output = made(*args, **named, **mode, **keywords, params=params)
        if has_collections and training:
            output, changed = output
            return output, _by_name(changed, paths)
        return output, {}

    return _function(type(given).__name__, variables, paths, apply, given.module)


def _dtype(arrays: Mapping[str, PyTree]) -> np.dtype:
    """Return the type in which a model computes: that of its parameters."""
    floats = (a.dtype for a in arrays.values() if jnp.issubdtype(a.dtype, jnp.floating))
    return next(floats, np.dtype(np.float64))


def _module_in(made: nn.Module, dtype: np.dtype) -> nn.Module:
    """Return the same module with its `dtype`, if it has one, set to another."""
    return made.clone(dtype=dtype) if "dtype" in made.__dataclass_fields__ else made


def _holder_in(made: Any, dtype: np.dtype) -> Any:
    """Return the same model with constants of a type."""
    if not hasattr(made, "_module"):
        return made
    other = copy(made)
    other._module = _module_in(made.module, dtype)
    return other


def _unbound(made: Any) -> Any:
    """Return the module of a pair of its methods `(module.init, module.apply)`."""
    return getattr(made[0], "__self__", made) if isinstance(made, tuple) and made else made


def _is_holder(made: object) -> bool:
    return isinstance(getattr(made, "module", None), nn.Module) and hasattr(made, "params")


def _function(
    kind: str, variables: PyTree, paths: Paths, apply: Any, module: nn.Module
) -> Function:
    arrays = _by_name(variables, paths)
    trained = frozenset(name for name, path in paths.items() if path[0] == PARAMS)
    return Function(kind, arrays, trained, apply, root=module.name or type(module).__name__)


def _paths(variables: PyTree) -> Paths:
    """Name variables by their dotted path, with the collection in front where two have one path."""
    paths: Paths = {}
    for path in flatten_dict(variables):
        name = ".".join(map(str, path[1:]))
        paths[name if name not in paths else ".".join(map(str, path))] = path
    return paths


def _by_name(variables: PyTree, paths: Paths) -> dict[str, jax.Array]:
    flat: dict[tuple, Any] = flatten_dict(variables)
    return {name: flat[path] for name, path in paths.items() if path in flat}
