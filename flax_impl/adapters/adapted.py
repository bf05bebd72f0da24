"""A module of another library as a linen module, so that one loop trains both."""

from collections.abc import Collection, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_impl.device import DType, PyTree
from flax_impl.layers import Kind

PARAMS, BUFFERS = COLLECTIONS = ("params", "batch_stats")
Path = tuple[str, ...]


class Adapted(nn.Module):
    """A module of another library whose variables are those of a linen module.

    `params` are its trained arrays, `batch_stats` all others; `dtype` is that of the parameters and inputs in
    products. Only here: torch has one kind of module.
    """

    dtype: DType

    def kinds(self) -> dict[Path, Kind]:
        """Return the kinds of its layers, by path."""
        raise NotImplementedError

    def native(self, variables: PyTree) -> object:
        """Return the module as its author knows it, with its variables, in evaluation."""
        raise NotImplementedError

    def write(self, arrays: Mapping[str, Mapping[Path, jax.Array]]) -> None:
        """Set the variables of some collections, in the types that they have."""
        for collection, by_path in arrays.items():
            before = flat_arrays(self.variables.get(collection, {}))
            typed = {
                path: array.astype(before[path].dtype) if path in before else array
                for path, array in by_path.items()
            }
            for name, tree in unflatten_dict(typed).items():
                self.put_variable(collection, name, tree)

    @property
    def written(self) -> Collection[str]:
        """The collections that a call changes."""
        return [name for name in COLLECTIONS if self.is_mutable_collection(name)]

    @property
    def dropout_key(self) -> jax.Array | None:
        """The step's key, as passed to `apply`: `make_rng` would fold Flax's own path into it."""
        if self.scope is None or not self.has_rng("dropout"):
            return None
        return self.scope.rngs["dropout"].rng  # pyrefly: ignore[missing-attribute] a LazyRng in a bound module

    def in_dtype(self, array: jax.Array) -> jax.Array:
        """Return an array of floats in the type of products, and others as they are."""
        return array.astype(self.dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def flat_arrays(variables: PyTree) -> dict[Path, jax.Array]:
    """Return the arrays of a collection by path."""
    arrays: dict[Path, PyTree] = flatten_dict(variables)
    return arrays


def in_own_type(array: jax.Array, own: jax.ShapeDtypeStruct) -> jax.Array:
    """Return an array in the type in which a module holds it, if that is no float."""
    return array if jnp.issubdtype(own.dtype, jnp.floating) else array.astype(own.dtype)
