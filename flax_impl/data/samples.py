"""Samples of a split, on the devices or memory-mapped."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import Device, DType
from flax_impl.sharding import put_on_devices, shard
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split
from pipeline.rng import generator

# Splits of up to this size together are kept on a CPU; larger ones stay memory-mapped. On a GPU they may
# take this part of its memory.
RESIDENT_BYTES = 4 * 2**30
RESIDENT_PART = 1 / 4

Batch = dict[str, jax.Array]  # the fields by name
# Samples of a batch: indices into a resident split, or the rows themselves.
BatchRows = jax.Array | Batch


class Samples(NamedTuple):
    """A split on the device, and the constants that normalise it. A pytree: compiled steps take it whole."""

    fields: Batch | None  # all samples of each field; None for a split that is not resident
    moments: dict[
        str, tuple[jax.Array, jax.Array]
    ]  # mean, and reciprocal of each channel's deviation


class ResidentSplit:
    """A split, copied to every device, or memory-mapped if it is too large.

    Only here: a compiled step takes `Samples` as a pytree, which cannot read a memory map.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device) -> None:
        self.split, self.device = split, device
        self.types = {name: _device_type(array, device) for name, array in split.arrays.items()}
        self.resident = is_resident(split, plan, device)
        fields = None
        if self.resident:
            names = {id(array): name for name, array in split.arrays.items()}
            placed = {
                key: self._on_devices(split.arrays[name], self.types[name])
                for key, name in names.items()
            }
            # Fields that share an array share it on the device.
            fields = {name: placed[id(array)] for name, array in split.arrays.items()}
        moments = {
            name: (
                self._on_devices(moments.mean, device.dtype),
                self._on_devices(1 / moments.std, device.dtype),
            )
            for name, moments in plan.data.moments.items()
        }
        self.samples = Samples(fields, moments)

    def _on_devices(self, array: np.ndarray, dtype: DType) -> jax.Array:
        return put_on_devices(array.astype(dtype, copy=False), self.device.everywhere)

    def find(self, indices: np.ndarray, axis: int | None = None) -> BatchRows:
        """Return samples as a compiled step takes them, sharded along `axis`, or replicated if it is None.

        `indices` may have any shape.
        """
        if self.resident:
            return shard(indices.astype(np.int32), self.device, axis)
        return {
            name: shard(_LazyRows(array, indices, self.types[name]), self.device, axis)
            for name, array in self.split.arrays.items()
        }

    def place_draws(self, draws: Mapping[str, np.ndarray], axis: int | None = None) -> Batch:
        """Return random numbers of samples as a compiled step takes them, sharded as in `find`."""
        return {
            name: shard(
                array.astype(_device_type(array, self.device), copy=False), self.device, axis
            )
            for name, array in draws.items()
        }


def is_resident(split: Split, plan: BatchPlan, device: Device) -> bool:
    """Return whether a split is kept on the device: if it fits there beside all splits of the run."""
    free, data = device.free_bytes(), plan.data
    most = RESIDENT_BYTES if free is None else RESIDENT_PART * free
    return split.bytes_beside(data.train, data.val, data.test) <= most


def shapes_of_sample(plan: BatchPlan, device: Device) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shapes and dtypes of a batch of one sample, with its noise, as `normalised` returns it."""
    train, task = plan.data.train, plan.data.task
    types = {name: field.dtype for name, field in train.fields.items()}
    shapes = dict(train.shapes(1))
    for name in task.noise:
        drawn = task.draw(name, generator(0, name), train.shapes(1))
        types[name], shapes[name] = drawn.dtype, drawn.shape

    def type_of(name: str) -> DType:
        is_real = name in plan.data.moments or np.issubdtype(types[name], np.floating)
        return device.dtype if is_real else jnp.int32

    return {name: jax.ShapeDtypeStruct(shapes[name], type_of(name)) for name in shapes}


class _LazyRows:
    """Rows of a memory-mapped array `[samples, …]`, read on demand; `indices` may have any shape.

    Only here: a JAX process fills several devices, a torch process one.
    """

    def __init__(self, array: np.ndarray, indices: np.ndarray, dtype: DType) -> None:
        self.array, self.indices, self.dtype = array, indices, dtype
        self.shape = indices.shape + array.shape[1:]

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Read a block of rows, with whole samples."""
        return self.array[self.indices[index[: self.indices.ndim]]].astype(self.dtype)


def _device_type(array: np.ndarray, device: Device) -> DType:
    """Type of a field on the device; small integers keep theirs until they are gathered."""
    if np.issubdtype(array.dtype, np.floating):
        return device.dtype
    return np.dtype(np.int32) if array.dtype.itemsize > 4 else array.dtype
