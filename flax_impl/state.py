"""Between Flax's state and the portable one: names joined, layouts transposed by kind of layer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_impl.layers import Layout, layer_kinds
from flax_impl.optimizers import SLOTS
from flax_impl.sharding import whole
from pipeline.config import Config
from pipeline.initial import initial_buffers, initial_parameters
from pipeline.portable import Arrays, PortableState


def initial_state(layout: Layout, config: Config) -> PortableState:
    """The run at step 0: parameters drawn by the core, batch statistics of nothing seen yet.

    Args:
        layout: of the model, from `layers.layout_of`.
        config: names the distribution.
    """
    shapes = shapes_of(layout)
    buffers = {place.name for place in layout.values() if place.collection == "batch_stats"}
    parameters = initial_parameters(
        {name: shape for name, shape in shapes.items() if name not in buffers},
        layer_kinds(layout),
        config.seed,
        config.model.init,
    )
    return PortableState(0, parameters, initial_buffers({name: shapes[name] for name in buffers}))


def to_portable(state: Any, layout: Layout) -> PortableState:
    """Copy a run out of JAX.

    Args:
        state: `step.TrainState`.
        layout: of the model.
    """
    return PortableState(
        step=int(state.step),
        parameters=parameters_of(state, layout),
        buffers=buffers_of(state, layout),
        slots=slots_of(state, layout),
        averages=to_canonical(state.averages, layout) if state.averages else {},
    )


def from_portable(portable: PortableState, state: Any, layout: Layout) -> Any:
    """A run copied into a state of the experiment's own, in its number types.

    Slots that the portable state lacks stay as they are.

    Args:
        portable: the run.
        state: `step.TrainState` at step 0.
        layout: of the model.

    Raises:
        KeyError: the model has a parameter that the portable state lacks.
    """

    def restore(node: Any) -> Any:
        if not _has_slots(node):
            return node
        fields = {
            field: _filled(getattr(node, field), portable.slots[slot], layout)
            for slot, field in SLOTS[type(node)].items()
            if slot in portable.slots
        }
        if "count" in node._fields:  # not hasattr: every tuple has a method of that name
            fields["count"] = jnp.full_like(node.count, portable.step)
        return node._replace(**fields)

    averages = state.averages
    if averages is not None:  # before its first update an average is a copy
        averages = _filled(averages, portable.averages or portable.parameters, layout)
    return state.replace(
        step=jnp.full_like(state.step, portable.step),
        params=_filled(state.params, portable.parameters, layout),
        batch_stats=_filled(state.batch_stats, portable.buffers, layout),
        opt_state=jax.tree.map(restore, state.opt_state, is_leaf=_has_slots),
        averages=averages,
    )


def parameters_of(state: Any, layout: Layout) -> Arrays:
    """A state's parameters by canonical name."""
    return to_canonical(state.params, layout)


def buffers_of(state: Any, layout: Layout) -> Arrays:
    """A state's batch statistics by canonical name."""
    return to_canonical(state.batch_stats, layout)


def slots_of(state: Any, layout: Layout) -> dict[str, Arrays]:
    """Optimizer slots by name; step counts are left out, since the run's step says the same."""
    slots: dict[str, Arrays] = {}
    for found in jax.tree.leaves(state.opt_state, is_leaf=_has_slots):
        for slot, field in SLOTS.get(type(found), {}).items():
            slots.setdefault(slot, {}).update(to_canonical(getattr(found, field), layout))
    return slots


def to_canonical(tree: Any, layout: Layout) -> Arrays:
    """A tree shaped like the parameters, as copies by canonical name in canonical layout.

    Only here, with its inverse: canonical names and layouts are torch's own.
    """
    parts: dict[str, list[np.ndarray]] = {}
    leaves = flatten_dict(whole(tree))
    # In the layout's order, not in that of the tree: parts of one array come one after the other.
    for path, place in layout.items():
        if not isinstance(leaves.get(path, _MASKED), optax.MaskedNode):
            parts.setdefault(place.name, []).append(place.canonical(leaves[path]))
    return {
        name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for name, arrays in parts.items()
    }


def from_canonical(arrays: Arrays, layout: Layout) -> dict[str, Any]:
    """Canonical arrays as a tree shaped like the parameters; the inverse of `to_canonical`."""
    return unflatten_dict(
        {
            path: place.native(arrays[place.name])
            for path, place in layout.items()
            if place.name in arrays
        }
    )


def by_path(values: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Values by canonical name as a tree shaped like the parameters.

    Only here: torch asks for them by name.
    """
    return unflatten_dict(
        {path: values[place.name] for path, place in layout.items() if place.name in values}
    )


def _filled(tree: Any, arrays: Arrays, layout: Layout) -> Any:
    """A tree's own structure and number types with the values of canonical arrays."""
    leaves = {
        path: leaf
        if isinstance(leaf, optax.MaskedNode)
        else jnp.asarray(layout[path].native(arrays[layout[path].name]), leaf.dtype)
        for path, leaf in flatten_dict(tree).items()
    }
    return unflatten_dict(leaves)


def _has_slots(node: object) -> bool:
    """Whether a node of an optimizer's state holds slots."""
    return type(node) in SLOTS


def shapes_of(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of the model's parameters and buffers."""
    zeros = {path: np.broadcast_to(np.zeros(()), place.shape) for path, place in layout.items()}
    return {
        name: array.shape for name, array in to_canonical(unflatten_dict(zeros), layout).items()
    }


_MASKED = optax.MaskedNode()
