"""A user's own Flax NNX module as a linen module."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from flax_impl.adapters.adapted import COLLECTIONS, PARAMS, Adapted, Path, flat_arrays, in_own_type
from flax_impl.adapters.dropout import Layers
from flax_impl.adapters.keywords import training_keywords
from flax_impl.adapters.recompute import Recomputed
from flax_impl.adapters.scopes import named
from flax_impl.device import PyTree
from flax_impl.layers import KINDS, Kind
from pipeline.errors import UserError

FILTERS = (nnx.Param, nnx.Not(nnx.RngState), nnx.RngState)  # of these, and of random generators
LINEN: dict[type[nnx.Module], type[nn.Module]] = {
    nnx.Linear: nn.Dense,
    nnx.Conv: nn.Conv,
    nnx.Embed: nn.Embed,
    nnx.LayerNorm: nn.LayerNorm,
    nnx.GroupNorm: nn.GroupNorm,
    nnx.RMSNorm: nn.RMSNorm,
    nnx.InstanceNorm: nn.InstanceNorm,
    nnx.BatchNorm: nn.BatchNorm,
    nnx.MultiHeadAttention: nn.MultiHeadDotProductAttention,
}


AXES = {"kernel": 2, "embedding": 2, "scale": 1, "bias": 1}  # of a layer's arrays


class FromNNX(Adapted):
    """An NNX module whose variables are those of a linen module.

    `params` are its variables of the type `nnx.Param`, `batch_stats` all others, but for the states of random
    generators: those start anew at each call, from linen's. `make` makes the module from a key.
    """

    make: Callable[[jax.Array], nnx.Module]

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool = False) -> PyTree:
        """Return the module's outputs; in training its dropout draws, and its statistics move."""
        if self.is_initializing():
            made = self.make(self.make_rng("params"))
            self.write(_arrays_of(made))
            return None
        key = self.make_rng("dropout") if self.has_rng("dropout") else jax.random.key(0)
        module = self.filled(self.variables, key)
        module.train() if train else module.eval()
        takes = signature(module.__call__).parameters
        options: dict[str, object] = {**training_keywords(module.__call__, train)}
        options |= {"rngs": nnx.Rngs(key)} if "rngs" in takes else {}
        blocks = Recomputed(
            _take_apart, lambda block: _layers(block).items(), nnx.state, nnx.update
        )
        around = blocks.around(Layers(self.dropout_key, is_last=True).around(_rate))
        with named(_layers(module), around) as blocks.paths:
            outputs = module(*map(self.in_dtype, inputs), **options)
        after = _arrays_of(module)
        self.write({name: after[name] for name in self.written})
        return outputs

    def kinds(self) -> dict[Path, Kind]:
        """Return the kinds of its layers, by path."""
        return {
            _names(path): KINDS[LINEN[type(layer)]]
            for path, layer in nnx.iter_modules(self._abstract())
            if type(layer) in LINEN and _is_one(layer)
        }

    def native(self, variables: PyTree) -> nnx.Module:
        """Return the module as its author knows it, with its variables, in evaluation."""
        module = self.filled(variables)
        module.eval()
        return module

    def filled(self, variables: PyTree, key: jax.Array | None = None) -> nnx.Module:
        """Return the module with its variables; its random generators start from `key`."""
        graph, *states, random = nnx.split(self._abstract(), *FILTERS)
        filled = [
            self._filled(state, name, variables.get(name, {}))
            for name, state in zip(COLLECTIONS, states, strict=True)
        ]
        return nnx.merge(
            graph, *filled, _started(random, jax.random.key(0) if key is None else key)
        )

    def _abstract(self) -> nnx.Module:
        """Return the module with shapes in place of arrays: it draws none."""
        return nnx.eval_shape(lambda: self.make(jax.random.key(0)))

    def _filled(self, state: PyTree, collection: str, variables: PyTree) -> PyTree:
        """Return a state with the values of a collection."""
        arrays = flat_arrays(variables)
        if collection == PARAMS:
            arrays = jax.tree.map(self.in_dtype, arrays)
        flat = [
            (path, with_value(v, in_own_type(arrays[_names(path)], value_of(v))))
            for path, v in nnx.to_flat_state(state)
        ]
        return nnx.from_flat_state(flat)


def _is_one(layer: Any) -> bool:
    """False for several layers that are stacked in one, whose weights have an axis more."""
    weights = [(getattr(layer, name, None), axes) for name, axes in AXES.items()]
    if isinstance(layer, nnx.Conv):
        return layer.kernel.ndim == 2 + len(layer.kernel_size)
    return all(getattr(weight, "ndim", axes) == axes for weight, axes in weights)


def _layers(module: nnx.Module) -> dict[str, nnx.Module]:
    """Return a module and those within it, by their dotted paths."""
    return {".".join(_names(path)): layer for path, layer in nnx.iter_modules(module)}


def _take_apart(module: nnx.Module) -> tuple[PyTree, Callable[[PyTree], nnx.Module]]:
    """Return a module's state, and what makes it of another."""
    graph, state = nnx.split(module)
    return state, partial(nnx.merge, graph)


def _rate(layer: nnx.Module, kwargs: dict) -> float | None:
    """Return the rate of a layer that drops single numbers in such a call."""
    if type(layer) is not nnx.Dropout or layer.broadcast_dims:
        return None
    given = kwargs.get("deterministic")
    is_still = layer.deterministic if given is None else given
    return None if is_still else layer.rate


def _arrays_of(module: nnx.Module) -> dict[str, dict[Path, jax.Array]]:
    """Return the arrays of a module's variables, by collection and path."""
    if keys := [path for path, v in nnx.to_flat_state(nnx.state(module)) if _is_key(v)]:
        problem = f"{'.'.join(_names(keys[0]))} is a random key, which no checkpoint keeps"
        raise UserError("model.jax", type(module).__name__, problem=problem, hint="Keep nnx.Rngs.")
    return {
        collection: {_names(path): value_of(v) for path, v in nnx.to_flat_state(state)}
        for collection, state in zip(COLLECTIONS, nnx.state(module, *FILTERS), strict=False)
    }


def _is_key(variable: PyTree) -> bool:
    is_ours = isinstance(variable, nnx.RngState)
    return not is_ours and jnp.issubdtype(value_of(variable).dtype, jax.dtypes.prng_key)


def value_of(variable: PyTree) -> PyTree:
    """Return the array of a variable; a module may also hold a bare array."""
    return variable.get_value() if isinstance(variable, nnx.Variable) else variable


def with_value(variable: PyTree, array: PyTree) -> PyTree:
    """Return a variable, or a bare array, with another value."""
    return variable.replace(array) if isinstance(variable, nnx.Variable) else array


def _started(random: PyTree, key: jax.Array) -> PyTree:
    """Return states of random generators, each with a key of its own and nothing drawn yet."""
    flat = [
        (path, v.replace(_start(v, jax.random.fold_in(key, index))))
        for index, (path, v) in enumerate(nnx.to_flat_state(random))
    ]
    return nnx.from_flat_state(flat)


def _names(path: tuple[object, ...]) -> Path:
    return tuple(map(str, path))


def _start(variable: PyTree, key: jax.Array) -> jax.Array:
    return key if isinstance(variable, nnx.RngKey) else jnp.zeros((), jnp.uint32)
