"""Conversion between Flax's state and the portable state: names joined, layouts transposed by layer kind."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_impl.device import PyTree
from flax_impl.layers import Layout, layer_kinds
from flax_impl.optimizers import SLOTS
from flax_impl.sharding import put_on_devices, whole
from flax_impl.training.train_state import TrainState
from pipeline.config.experiment import Config
from pipeline.config.models import Initializer
from pipeline.storage.portable_state import COUNTER, STATISTICS, Arrays, PortableState
from pipeline.training.initializers import initial_buffers, initial_parameters


def initial_state(
    layout: Layout, config: Config, make: Callable[[], PyTree] = dict
) -> PortableState:
    """The state at step 0: drawn by the core with initial running statistics, or as the model makes it.

    `make` returns the variables that the model makes.
    """
    if config.model.init is Initializer.own:
        made = make()
        parameters = to_canonical(made.get("params", {}), layout)
        return PortableState(0, parameters, _buffers(made.get("batch_stats", {}), layout))
    shapes = shapes_of(layout)
    buffers = {
        piece.name
        for place in layout.values()
        if place.collection == "batch_stats"
        for piece in place.pieces
    }
    drawn = {name: shape for name, shape in shapes.items() if name not in buffers}
    parameters = initial_parameters(drawn, layer_kinds(layout), config.seed, config.model.init)
    statistics = {n: s for n, s in shapes.items() if n in buffers and n.endswith(STATISTICS)}
    others = {}
    if len(statistics) < len(buffers):  # such as a table of numbers: as the model makes it
        others = _buffers(make().get("batch_stats", {}), layout)
    return PortableState(0, parameters, others | initial_buffers(statistics))


def to_portable(state: TrainState, layout: Layout) -> PortableState:
    """Copy a training state out of JAX."""
    return PortableState(
        step=int(state.step),
        parameters=parameters_of(state, layout),
        buffers=buffers_of(state, layout),
        slots=slots_of(state, layout),
        averages=to_canonical(state.averages, layout) if state.averages else {},
    )


def from_portable(portable: PortableState, state: TrainState, layout: Layout) -> TrainState:
    """Copy a portable state into a training state at step 0, in its dtypes.

    Slots that the portable state lacks stay as they are; a parameter that it lacks is a KeyError. A layer
    that counts its batches needs their `PortableState.counters` among the buffers.
    """

    def restore(node: PyTree) -> PyTree:
        if not _has_slots(node):
            return node
        fields = {
            field: _filled(getattr(node, field), portable.slots[slot], layout)
            for slot, field in SLOTS[type(node)].items()
            if slot in portable.slots
        }
        if "count" in node._fields:  # not hasattr: every tuple has a method `count`
            fields["count"] = place_like(np.asarray(portable.step), node.count)
        return node._replace(**fields)

    averages = state.averages
    if averages is not None:  # before its first update the average is a copy
        averages = _filled(averages, portable.averages or portable.parameters, layout)
    return state.replace(
        params=_filled(state.params, portable.parameters, layout),
        batch_stats=_filled(state.batch_stats, portable.buffers, layout),
        opt_state=jax.tree.map(restore, state.opt_state, is_leaf=_has_slots),
        averages=averages,
        step=place_like(np.asarray(portable.step), state.step),
    )


def parameters_of(state: TrainState, layout: Layout) -> Arrays:
    """A state's parameters by canonical name."""
    return to_canonical(state.params, layout)


def buffers_of(state: TrainState, layout: Layout) -> Arrays:
    """A state's running statistics by canonical name."""
    return _buffers(state.batch_stats, layout)


def _buffers(tree: PyTree, layout: Layout) -> Arrays:
    """Buffers by canonical name, without the counts of batches, which follow from the step."""
    arrays = to_canonical(tree, layout)
    return {name: array for name, array in arrays.items() if not name.endswith(COUNTER)}


def slots_of(state: TrainState, layout: Layout) -> dict[str, Arrays]:
    """Optimizer slots by name, without step counts, which equal the run's step."""
    slots: dict[str, Arrays] = {}
    for found in jax.tree.leaves(state.opt_state, is_leaf=_has_slots):
        for slot, field in SLOTS.get(type(found), {}).items():
            slots.setdefault(slot, {}).update(to_canonical(getattr(found, field), layout))
    return slots


def evaluated_weights(state: TrainState, layout: Layout) -> Arrays:
    """Values that an evaluation uses, by canonical name; collective with fsdp: all processes call it.

    These are the parameters, or with `train.ema` their averages, and the running statistics.
    """
    params = state.params if state.averages is None else state.averages
    return to_canonical(params, layout) | buffers_of(state, layout)


def to_canonical(tree: PyTree, layout: Layout) -> Arrays:
    """Copy a tree shaped like the parameters to canonical names and layouts.

    Only here, with its inverse: canonical names and layouts are torch's own.
    """
    arrays: Arrays = {}
    leaves: dict[tuple[str, ...], PyTree] = flatten_dict(whole(tree))
    for path, leaf in leaves.items():
        if isinstance(leaf, optax.MaskedNode):
            continue
        for piece in layout[path].pieces:
            array = np.asarray(leaf)
            if piece.name not in arrays:
                arrays[piece.name] = np.zeros(piece.shape, array.dtype)
            piece.block.write(arrays[piece.name], piece.canonical(array))
    return arrays


def from_canonical(arrays: Arrays, layout: Layout) -> PyTree:
    """Convert canonical arrays to a tree shaped like the parameters; the inverse of `to_canonical`."""
    return unflatten_dict(
        {path: place.native(arrays) for path, place in layout.items() if place.name in arrays}
    )


def by_path(values: Mapping[str, object], layout: Layout) -> PyTree:
    """Convert values by canonical name to a tree shaped like the parameters.

    Only here: torch's parameters are looked up by name.
    """
    return unflatten_dict(
        {path: values[place.name] for path, place in layout.items() if place.name in values}
    )


def _filled(tree: PyTree, arrays: Arrays, layout: Layout) -> PyTree:
    """A tree with the same structure and dtypes, and the values of canonical arrays."""
    own: dict[tuple[str, ...], PyTree] = flatten_dict(tree)
    leaves = {
        path: leaf
        if isinstance(leaf, optax.MaskedNode)
        else place_like(layout[path].native(arrays), leaf)
        for path, leaf in own.items()
    }
    return unflatten_dict(leaves)


def place_like(array: np.ndarray, leaf: PyTree) -> jax.Array:
    """Put an array on the devices of a leaf, in its dtype.

    Only here: torch copies into existing tensors.
    """
    return put_on_devices(np.asarray(array, leaf.dtype), leaf.sharding)


def _has_slots(node: object) -> bool:
    return type(node) in SLOTS


def shapes_of(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of a model's parameters and buffers."""
    return {
        piece.name: piece.shape
        for place in layout.values()
        for piece in place.pieces
        if not piece.name.endswith(COUNTER)
    }
