"""A user's own Flax NNX module as a linen module, so that one loop trains both."""

from collections.abc import Callable
from inspect import signature

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_impl.device import DType, PyTree
from flax_impl.layers import Adapted

COLLECTIONS = ("params", "batch_stats")
FILTERS = (nnx.Param, nnx.Not(nnx.RngState), nnx.RngState)  # of these, and of random generators
KINDS: dict[type[nnx.Module], type[nn.Module]] = {
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


class FromNNX(Adapted):
    """An NNX module whose variables are those of a linen module.

    `params` are its variables of the type `nnx.Param`, `batch_stats` all others, but for the states of random
    generators: those start anew at each call, from linen's. `make` makes the module from `nnx.Rngs`, and
    `dtype` is that of the parameters and inputs in products. Only here: torch has one kind of module.
    """

    make: Callable[[nnx.Rngs], nnx.Module]
    dtype: DType

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool = False) -> PyTree:
        """Return the module's outputs; in training its dropout draws, and its statistics move."""
        if self.is_initializing():
            made = self.make(nnx.Rngs(self.make_rng("params")))
            self._write(nnx.state(made, *FILTERS)[:2], COLLECTIONS)
            return None
        key = self.make_rng("dropout") if self.has_rng("dropout") else jax.random.key(0)
        module = self.filled(self.variables, key)
        module.train() if train else module.eval()
        takes = signature(module.__call__).parameters
        options: dict[str, object] = {"train": train} if "train" in takes else {}
        options |= {"rngs": nnx.Rngs(key)} if "rngs" in takes else {}
        outputs = module(*map(self._in_dtype, inputs), **options)
        after = nnx.state(module, *FILTERS)[:2]
        self._write(after, [name for name in COLLECTIONS if self.is_mutable_collection(name)])
        return outputs

    def kinds(self) -> dict[tuple[str, ...], type[nn.Module]]:
        """Return the linen layers that its own are like, by path."""
        return {
            _names(path): KINDS[type(layer)]
            for path, layer in nnx.iter_modules(self._abstract())
            if type(layer) in KINDS
        }

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
        return nnx.eval_shape(lambda: self.make(nnx.Rngs(0)))

    def _write(self, states: PyTree, collections: PyTree) -> None:
        for collection, state in zip(COLLECTIONS, states, strict=True):
            if collection in collections:
                arrays = {_names(p): v.get_value() for p, v in nnx.to_flat_state(state)}
                for name, tree in unflatten_dict(arrays).items():
                    self.put_variable(collection, name, tree)

    def _filled(self, state: PyTree, collection: str, variables: PyTree) -> PyTree:
        """Return a state with the values of a collection."""
        arrays = flatten_dict(variables)
        if collection == "params":
            arrays = jax.tree.map(self._in_dtype, arrays)
        flat = [(path, v.replace(arrays[_names(path)])) for path, v in nnx.to_flat_state(state)]
        return nnx.from_flat_state(flat)

    def _in_dtype(self, array: jax.Array) -> jax.Array:
        return array.astype(self.dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _started(random: PyTree, key: jax.Array) -> PyTree:
    """Return states of random generators, each with a key of its own and nothing drawn yet."""
    flat = [
        (path, v.replace(_start(v, jax.random.fold_in(key, index))))
        for index, (path, v) in enumerate(nnx.to_flat_state(random))
    ]
    return nnx.from_flat_state(flat)


def _names(path: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(map(str, path))


def _start(variable: PyTree, key: jax.Array) -> jax.Array:
    return key if isinstance(variable, nnx.RngKey) else jnp.zeros((), jnp.uint32)
