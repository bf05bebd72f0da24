"""A user's own Equinox module as a linen module; Equinox is imported only for such a module."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.adapters.adapted import BUFFERS, PARAMS, Adapted, Path, flat_arrays, in_own_type
from flax_impl.adapters.dropout import Layers
from flax_impl.adapters.equinox_layers import FIRST, kind_of
from flax_impl.adapters.equinox_module import (
    axis_of,
    is_pair,
    modules_of,
    named_state,
    with_state,
)
from flax_impl.adapters.keywords import KEYS, training_keywords
from flax_impl.adapters.recompute import Recomputed
from flax_impl.adapters.scopes import Around, named
from flax_impl.adapters.tree import Tree
from flax_impl.device import PyTree
from flax_impl.layers import Kind

Arrays = dict[str, dict[Path, jax.Array]]  # by collection and path


class Template:
    """Structure of an Equinox module and its state: all of them but the values of their arrays."""

    def __init__(self, made: object) -> None:
        module, state = with_state(made)
        self.module, self.state = (_with_shapes(tree) for tree in _trees(module, state))
        self.has_state = is_pair(made) or bool(self.state.places)

    def filled(self, collections: Arrays) -> tuple[Any, Any]:
        """Return the module and its state with these arrays."""
        arrays = {".".join(path): a for each in collections.values() for path, a in each.items()}
        filled = []
        for tree in (self.module, self.state):
            shapes = tree.arrays
            values = {name: _as_held(name, arrays[name], shapes[name]) for name in shapes}
            filled.append(tree.filled(values))
        return filled[0], filled[1]

    def read(self, module: object, state: object) -> Arrays:
        """Return the arrays of a module and its state, by collection and path."""
        arrays = self.module.read(module)
        trained = {name for name, array in arrays.items() if _is_trained(array)}
        others = {name: array for name, array in arrays.items() if name not in trained}
        return {
            PARAMS: {_path(name): arrays[name] for name in trained},
            BUFFERS: {_path(name): array for name, array in others.items()}
            | self.read_state(state),
        }

    def read_state(self, state: object) -> dict[Path, jax.Array]:
        """Return the arrays of a state."""
        return {_path(n): _as_stored(n, a) for n, a in self.state.read(state).items()}


class FromEquinox(Adapted):
    """An Equinox module whose variables are those of a linen module.

    `params` are its arrays of floats, `batch_stats` those of its state, and of integers. It is called on one
    sample at a time, vmapped over the batch; images are `[channels, height, width]` in it, as its layers
    take them. `make` makes it, or a pair of it and its state, from a key; `template` is their structure.
    Each call is made within `calling(key, inputs, of)`; see `pipeline.training.model_calls`.
    """

    make: Callable[[jax.Array], object]
    template: Template
    calling: Callable[..., AbstractContextManager] = lambda *_: nullcontext()

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool = False) -> PyTree:
        """Return the module's outputs; in training its dropout draws, and its statistics move."""
        import equinox as eqx

        if self.is_initializing():
            self.write(self._initial(self.make_rng("params")))
            return None
        module, state = self.filled(self.variables)
        module = module if train else eqx.nn.inference_mode(module)
        outputs, after = self._call(module, state, [*map(self.in_dtype, inputs)], train)
        if BUFFERS in self.written:
            self.write({BUFFERS: self.template.read_state(after)})
        return outputs

    def kinds(self) -> dict[Path, Kind]:
        """Return the kinds of its layers, by path."""
        found: dict[Path, Kind] = {}
        for name, layer in modules_of(self.template.module.filled(self.template.module.arrays)):
            path = _path(name)
            is_inside = any(path[:depth] in found for depth in range(1, len(path)))
            kind = None if is_inside else kind_of(layer)
            if kind:
                found[path] = kind
        return found

    def native(self, variables: PyTree) -> object:
        """Return the module as its author knows it, in evaluation; with its state a pair."""
        import equinox as eqx

        module, state = self.filled(variables)
        module = eqx.nn.inference_mode(module)
        return (module, state) if self.template.has_state else module

    def filled(self, variables: PyTree) -> tuple[Any, Any]:
        """Return the module and its state with its variables."""
        params, buffers = (flat_arrays(variables.get(n, {})) for n in (PARAMS, BUFFERS))
        params = {path: self.in_dtype(array) for path, array in params.items()}
        return self.template.filled({PARAMS: params, BUFFERS: buffers})

    def _initial(self, key: jax.Array) -> Arrays:
        """Return the arrays that the module makes itself; zeros where only their shapes are asked for."""
        if isinstance(key, jax.core.Tracer):
            trees = (self.template.module, self.template.state)
            zeros = [jax.tree.map(_zeros, tree.filled(tree.arrays)) for tree in trees]
            return self.template.read(*zeros)
        return self.template.read(*with_state(self.make(key)))

    def _call(
        self, module: Any, state: Any, inputs: list[jax.Array], train: bool
    ) -> tuple[PyTree, Any]:
        """Return the outputs for a batch, and the state after it."""
        has_images = any(x.ndim == 4 for x in inputs)
        names = signature(module.__call__).parameters
        options = training_keywords(module.__call__, train, KEYS)

        def call(key: jax.Array, *sample: jax.Array) -> tuple[PyTree, Any]:
            given = options | {name: key for name in KEYS if name in names}
            with self.calling("model.jax", sample, " of one sample"):
                if not self.template.has_state:
                    return module(*sample, **given), state
                if "state" in names:
                    return module(*sample, **given, state=state)
                return module(*sample, state, **given)

        batched = jax.vmap(call, out_axes=(0, None), axis_name=axis_of(module))
        keys = jax.random.split(self._key(), len(inputs[0]))
        layers = Layers(self.dropout_key, is_last=False)
        blocks = Recomputed(_take_apart, modules_of)
        around = blocks.around(_wide_norms(layers.around(_rate)))
        with named(dict(modules_of(module)), around) as blocks.paths:
            outputs, after = batched(keys, *map(_channels_first, inputs))
        return jax.tree.map(_channels_last, outputs) if has_images else outputs, after

    def _key(self) -> jax.Array:
        """Return a key of the kind that can be split over a batch without a loop."""
        if not self.has_rng("dropout"):
            return jax.random.key(0)
        words = jax.random.key_data(self.make_rng("dropout"))[:2]
        return jax.random.wrap_key_data(words, impl="threefry2x32")


def _trees(module: Any, state: Any) -> tuple[Tree, Tree]:
    import equinox as eqx

    def is_held(leaf: Any) -> bool:
        return eqx.is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

    return Tree.of(module, PARAMS, is_held), named_state(module, state)


def _take_apart(module: Any) -> tuple[PyTree, Callable[[PyTree], Any]]:
    """Return a module's arrays, and what makes it of others."""
    import equinox as eqx

    arrays, others = eqx.partition(module, eqx.is_array)
    return arrays, lambda arrays: eqx.combine(arrays, others)


def _with_shapes(tree: Tree) -> Tree:
    """Return a tree with shapes in place of arrays."""
    shapes = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in tree.arrays.items()}
    return Tree(tree.structure, jax.tree.leaves(tree.filled(shapes)), tree.places)


def _wide_norms(around: Around) -> Around:
    """Let batch norms compute in the type of their statistics: they refuse a narrower one."""
    import equinox as eqx

    def make_call(path: str, layer: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        if not isinstance(layer, eqx.nn.BatchNorm) or not args:
            return around(path, layer, call, args, kwargs)
        x, *rest = args
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        output, state = around(path, layer, call, (wide, *rest), kwargs)
        return output.astype(x.dtype), state

    return make_call


def _rate(layer: Any, kwargs: dict) -> float | None:
    """Return the rate of a layer that drops in such a call."""
    import equinox as eqx

    if type(layer) is not eqx.nn.Dropout or not isinstance(layer.p, int | float):
        return None
    given = kwargs.get("inference")
    is_still = layer.inference if given is None else given
    return None if is_still else float(layer.p)


def _is_trained(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def _path(name: str) -> Path:
    return tuple(name.split(".")) if name else ()


def _as_held(name: str, array: Any, own: jax.ShapeDtypeStruct) -> jax.Array:
    # The flag of the first batch is kept as a count of batches, as torch has it.
    return array == 0 if name.endswith(FIRST) else in_own_type(array, own)


def _as_stored(name: str, array: jax.Array) -> jax.Array:
    return jnp.logical_not(array).astype(jnp.int32) if name.endswith(FIRST) else array


def _zeros(leaf: PyTree) -> PyTree:
    is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
    return jnp.zeros(leaf.shape, leaf.dtype) if is_shape else leaf


def _channels_first(array: jax.Array) -> jax.Array:
    return jnp.moveaxis(array, -1, 1) if array.ndim == 4 else array


def _channels_last(array: jax.Array) -> jax.Array:
    return jnp.moveaxis(array, 1, -1) if array.ndim == 4 else array
