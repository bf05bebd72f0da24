"""Trees of any containers whose arrays go by dotted paths."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from flax_impl.device import PyTree


@dataclass(frozen=True)
class Tree:
    """A tree of dictionaries, lists, dataclasses, modules; other leaves than arrays stay as they are."""

    structure: jax.tree_util.PyTreeDef
    leaves: list[PyTree]
    places: Mapping[str, int]  # of the arrays among the leaves, by name

    @classmethod
    def of(
        cls,
        tree: PyTree,
        alone: str,
        is_array: Callable[[object], bool] | None = None,
        others: Container[str] = (),
    ) -> "Tree":
        """Take a tree apart.

        `alone` is the name of a tree that is a single array; it also precedes a name among `others`.
        """
        found, structure = jax.tree_util.tree_flatten_with_path(tree)
        places: dict[str, int] = {}
        for place, (path, leaf) in enumerate(found):
            if not (is_array or is_jax_or_numpy)(leaf):
                continue
            name = path_name(path) or alone
            if name in others:
                name = f"{alone}.{name}"
            # Two paths look alike where a key has a dot.
            places[name if name not in places else jax.tree_util.keystr(path)] = place
        return cls(structure, [leaf for _, leaf in found], places)

    @property
    def arrays(self) -> dict[str, PyTree]:
        """Arrays by name."""
        return {name: self.leaves[place] for name, place in self.places.items()}

    def filled(self, arrays: Mapping[str, PyTree]) -> PyTree:
        """Return the tree with these arrays in place of its own."""
        leaves = list(self.leaves)
        for name, place in self.places.items():
            leaves[place] = arrays[name]
        return self.structure.unflatten(leaves)

    def read(self, tree: PyTree) -> dict[str, PyTree]:
        """Return the arrays of another tree of this structure, by name."""
        leaves = jax.tree.leaves(tree)
        return {name: leaves[place] for name, place in self.places.items()}


def path_name(path: Sequence[object]) -> str:
    """Return the dotted path of a leaf."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator=".")


def is_jax_or_numpy(leaf: object) -> bool:
    """Return True for an array of JAX or NumPy."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)
