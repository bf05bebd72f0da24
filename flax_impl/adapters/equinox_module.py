"""Modules of Equinox: their arrays, their state and the modules within them.

Equinox is imported only for such a module: it is no dependency.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from flax_impl.adapters.tree import Tree, path_name
from pipeline.errors import UserError

# Pairs of statistics that a batch norm keeps, by the ends of their paths.
STATISTICS = {
    "ema_state_index.0": "running_mean", "ema_state_index.1": "running_var",
    "batch_state_index.0": "running_mean", "batch_state_index.1": "running_var",
}  # fmt: skip
AXIS = "batch"  # name of the axis over which modules are vmapped, unless they have another


def is_equinox(made: object, name: str = "Module") -> bool:
    """Tell an object's class by name: Equinox is not imported to find out."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == "equinox"
        for base in type(made).__mro__
    )


def is_pair(made: object) -> bool:
    """Return True for a pair of an Equinox module and its state."""
    if not isinstance(made, tuple) or len(made) != 2:
        return False
    return is_equinox(made[0], "Module") and is_equinox(made[1], "State")


def with_state(made: Any) -> tuple[Any, Any]:
    """Return a module without its initial state, and that state, given the module or such a pair."""
    import equinox as eqx

    if is_pair(made):
        return made
    try:
        return eqx.nn.make_with_state(lambda: made)()
    except ValueError:
        hint = "Give the pair (model, state) that equinox.nn.make_with_state returns."
        name = type(made).__name__
        raise UserError("model", name, problem="its state is missing", hint=hint) from None


def named_state(model: Any, state: Any) -> Tree:
    """Take a state apart; its arrays are named by the layers that keep them."""
    names: dict[int, str] = {}  # by the identity of an array
    layers = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda x: is_equinox(x, "StateIndex")
    )[0]
    for path, index in layers:
        if is_equinox(index, "StateIndex"):
            for rest, array in jax.tree_util.tree_flatten_with_path(state.get(index))[0]:
                name = path_name((*path, *rest))
                for end, meaning in STATISTICS.items():
                    name = name.replace(end, meaning)
                names[id(array)] = name
    leaves, structure = jax.tree.flatten(state)
    places: dict[str, int] = {}
    for place, leaf in enumerate(leaves):
        name = names.get(id(leaf), "state")
        places[name if name not in places else f"state.{place}"] = place
        # Variances that no batch has filled yet are zero in the mode "ema".
        if name.endswith("running_var") and not leaf.any():
            leaves[place] = jnp.ones_like(leaf)
    return Tree(structure, leaves, places)


def modules_of(model: Any, path: tuple = ()) -> Iterator[tuple[str, Any]]:
    """Yield a module and those within it that can be called, by their dotted paths."""
    if callable(model):
        yield path_name(path) if path else "", model
    children = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda leaf: leaf is not model and is_equinox(leaf, "Module")
    )[0]
    for rest, child in children:
        if child is not model and is_equinox(child, "Module"):
            yield from modules_of(child, (*path, *rest))


def axis_of(model: Any) -> str:
    """Return the name of the axis over which a module is vmapped."""
    found = (getattr(module, "axis_name", None) for _, module in modules_of(model))
    return next((name for name in found if isinstance(name, str)), AXIS)
