"""How the arrays of a run lie on its devices: along the one axis of devices each has a share of the
batch, and under `fsdp` of the larger arrays of the state too.

The compiler puts in what devices must send each other (https://docs.jax.dev/en/latest/sharded-computation.html);
here is only what lies where.
"""

from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding, PartitionSpec

from flax_impl.device import DATA, Device

SMALL = 1024  # numbers; an array of fewer lies whole on each device: sharing it would save nothing

WHOLE = PartitionSpec()


class Readable(Protocol):
    """An array, or what reads parts of one when they are asked for. Only here: torch's ranks slice.

    Args:
        shape: of the whole.
    """

    shape: tuple[int, ...]

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """A part."""


def spec_of(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """How devices share an array of the state: along the longest axis that their number divides."""
    fitting = [axis for axis, length in enumerate(shape) if length % devices == 0]
    if not fitting or prod(shape) < SMALL:
        return WHOLE
    return along(max(fitting, key=lambda axis: shape[axis]))


def along(axis: int) -> PartitionSpec:
    """Each device its block of an axis, in the order of the devices."""
    return PartitionSpec(*[None] * axis, DATA)


def shardings(state: Any, device: Device) -> Any:
    """Where the arrays of a state lie; slots and averages as the parameters that they are of.

    Args:
        state: arrays, or their shapes.
        device: all devices of the run.
    """
    return jax.tree.map(
        lambda leaf: NamedSharding(
            device.mesh, spec_of(leaf.shape, device.devices) if device.sharded else WHOLE
        ),
        state,
    )


def made_in_place(begin: Callable, arrays: tuple, device: Device) -> Any:
    """A state each part of which is made on the device that holds it.

    Shapes first, then where they lie, then the arrays: none is ever whole on a device that has but
    a share of it.

    Args:
        begin: from the arrays to the state.
        arrays: trees of NumPy arrays.
        device: all devices of the run.
    """
    places = shardings(jax.eval_shape(begin, *arrays), device)
    placed = jax.tree.map(place, arrays, shardings(arrays, device))
    return jax.jit(begin, out_shardings=places)(*placed)


def gathered(variables: Any, device: Device) -> Any:
    """A model's variables whole on every device, as a layer needs them; inside a compiled step.

    Without it the compiler might rather have the activations sent around.
    """
    return jax.lax.with_sharding_constraint(variables, device.everywhere)


def place(array: Readable, sharding: NamedSharding) -> jax.Array:
    """An array on the devices; no process reads, and no device gets, more than its part."""
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


def share(array: Readable, device: Device, axis: int | None = None) -> jax.Array | np.ndarray:
    """What a compiled call takes besides the state: each device its block of `axis`, or all of it.

    One device is given NumPy's array as it is: the call itself puts it there fastest.
    """
    if device.devices == 1:
        return array[(slice(None),) * len(array.shape)]
    return place(array, NamedSharding(device.mesh, WHOLE if axis is None else along(axis)))


def whole(tree: Any) -> Any:
    """Copies in NumPy, on every process; all of them must ask, since what others hold is sent."""
    return jax.device_get(jax.tree.map(_known_here, tree))


def _known_here(leaf: Any) -> Any:
    known = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
    return leaf if known else process_allgather(leaf, tiled=True)
