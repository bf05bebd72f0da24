"""Between Flax's state and the portable one: names joined, layouts transposed by kind of layer."""

from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_impl.layers import LayerKind
from pipeline.config import Config
from pipeline.initial import initial_parameters
from pipeline.portable import Arrays, PortableState

Kinds = dict[str, LayerKind]

# The slots of an optimizer's state, by torch's names. Found by type, never by place in the chain.
SLOTS: dict[type, dict[str, str]] = {
    optax.ScaleByAdamState: {"exp_avg": "mu", "exp_avg_sq": "nu"},
    optax.TraceState: {"momentum_buffer": "trace"},
}


def initial_state(shapes: Any, kinds: Kinds, config: Config) -> PortableState:
    """The run at step 0: parameters drawn by the core.

    Args:
        shapes: tree of parameters' shapes, as `jax.eval_shape` of the model's init gives it.
        kinds: of the layers, from `layers.layer_kinds`.
        config: names the distribution.
    """
    canonical = {
        name: array.shape for name, array in to_canonical(_zeros_like(shapes), kinds).items()
    }
    names = {layer: kind.name for layer, kind in kinds.items()}
    parameters = initial_parameters(canonical, names, config.seed, config.model.init)
    return PortableState(step=0, parameters=parameters)


def to_portable(state: Any, kinds: Kinds) -> PortableState:
    """Copy a run out of JAX.

    Args:
        state: `step.TrainState`.
        kinds: of the model's layers.
    """
    return PortableState(
        step=int(state.step),
        parameters=parameters_of(state, kinds),
        slots=slots_of(state, kinds),
        averages=to_canonical(state.averages, kinds) if state.averages else {},
    )


def from_portable(state: PortableState, kinds: Kinds, dtype: Any) -> dict[str, Any]:
    """The parameters as Flax's tree of NumPy arrays, in the run's number type."""
    return from_canonical(
        {name: array.astype(dtype) for name, array in state.parameters.items()}, kinds
    )


def parameters_of(state: Any, kinds: Kinds) -> Arrays:
    """A state's parameters by canonical name."""
    return to_canonical(state.params, kinds)


def slots_of(state: Any, kinds: Kinds) -> dict[str, Arrays]:
    """Optimizer slots by name; step counts are left out, since the run's step says the same."""
    return {
        slot: to_canonical(getattr(found, field), kinds)
        for found in jax.tree.leaves(state.opt_state, is_leaf=_has_slots)
        if _has_slots(found)
        for slot, field in SLOTS[type(found)].items()
    }


def to_canonical(tree: Any, kinds: Kinds) -> Arrays:
    """A tree shaped like the parameters, as copies by canonical name in canonical layout.

    Only here, with its inverse: canonical names and layouts are torch's own.
    """
    arrays = {}
    for path, leaf in flatten_dict(jax.device_get(tree)).items():
        layer = ".".join(path[:-1])
        role, axes = kinds[layer].parameters[path[-1]]
        arrays[f"{layer}.{role}"] = np.array(np.transpose(leaf, axes), order="C")
    return arrays


def from_canonical(arrays: Arrays, kinds: Kinds) -> dict[str, Any]:
    """Canonical arrays as a tree shaped like the parameters; the inverse of `to_canonical`."""
    leaves = {}
    for layer, kind in kinds.items():
        for name, (role, axes) in kind.parameters.items():
            array = arrays.get(f"{layer}.{role}")
            if array is not None:
                leaves[(layer, name)] = np.array(np.transpose(array, np.argsort(axes)), order="C")
    return unflatten_dict(leaves)


def _has_slots(node: object) -> bool:
    """Whether a node of an optimizer's state holds slots."""
    return type(node) in SLOTS


def _zeros_like(shapes: Any) -> Any:
    """Arrays of zeros that take no memory, for a tree of shapes."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)
