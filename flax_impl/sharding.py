"""Placement of a run's arrays on its devices, along the one axis of the mesh.

The batch is sharded along it; with `fsdp` the larger arrays of the state are too. The compiler adds the
communication (https://docs.jax.dev/en/latest/sharded-computation.html).
"""

from math import prod
from typing import Protocol

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding, PartitionSpec

from flax_impl.device import DATA, Device, PyTree

SMALL = 1024  # numbers; smaller arrays are replicated, since sharding them would save nothing

WHOLE = PartitionSpec()


class _Readable(Protocol):
    """An array, or a reader of blocks of one. Only here: torch's ranks slice."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, ...], /) -> np.ndarray: ...


def _spec_of(shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """Shard an array of the state along its longest axis divisible by the number of devices."""
    fitting = [axis for axis, length in enumerate(shape) if length % devices == 0]
    if not fitting or prod(shape) < SMALL:
        return WHOLE
    return axis_spec(max(fitting, key=lambda axis: shape[axis]))


def axis_spec(axis: int) -> PartitionSpec:
    """Shard an axis in blocks, in the order of the devices."""
    return PartitionSpec(*[None] * axis, DATA)


def shardings(state: PyTree, device: Device) -> PyTree:
    """Shardings of a state's arrays, or of their shapes; slots and averages follow their parameters."""

    def sharding(leaf: PyTree) -> NamedSharding:
        spec = _spec_of(leaf.shape, device.devices) if device.sharded else WHOLE
        return NamedSharding(device.mesh, spec)

    return jax.tree.map(sharding, state)


def put_on_devices(array: np.ndarray | _Readable, sharding: NamedSharding) -> jax.Array:
    """Put an array on the devices; each process reads, and each device gets, only its shard."""
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)  # pyrefly: ignore[bad-argument-type] a tuple of slices


def shard(array: np.ndarray | _Readable, device: Device, axis: int | None = None) -> jax.Array:
    """Shard an argument of a compiled call along `axis`, or replicate it if that is None.

    For one device it stays a NumPy array: the call itself transfers it fastest.
    """
    if device.devices == 1:
        return array[(slice(None),) * len(array.shape)]  # pyrefly: ignore[bad-return] NumPy's
    spec = WHOLE if axis is None else axis_spec(axis)
    return put_on_devices(array, NamedSharding(device.mesh, spec))


def whole(tree: PyTree) -> PyTree:
    """Copy a tree of arrays to NumPy, on every process. Collective: all processes call it."""

    def gathered(leaf: PyTree) -> PyTree:
        is_array = isinstance(leaf, jax.Array)
        if not is_array or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        return process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(gathered, tree))
