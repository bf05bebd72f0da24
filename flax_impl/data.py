"""Batches for JAX: gathered, cropped, mirrored and normalised many samples at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import Device, DType, PyTree
from flax_impl.sharding import WHOLE, axis_spec, put_on_devices, shard
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split, Task

# Arrays up to this size are kept on the device; larger ones stay memory-mapped.
RESIDENT_BYTES = 4 * 2**30


# Samples of a batch: indices into a resident split, or the rows themselves.
BatchRows = jax.Array | tuple[jax.Array, jax.Array]


class Samples(NamedTuple):
    """A split on the device, and the constants that normalise it. A pytree: compiled steps take it whole.

    `inputs` are uint8 `[samples, height, width, channels]`, numbers `[samples, features]`, or tokens, uint8
    `[samples, length]`; `targets` are classes `[samples]`, values `[samples, outputs]`, or tokens
    `[samples, length]`. Both are None for a split that is not resident.
    """

    inputs: jax.Array | None
    targets: jax.Array | None
    mean: jax.Array
    scale: jax.Array  # reciprocal of each channel's deviation


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


class _ResidentSplit:
    """A split, copied to every device, or memory-mapped if it is too large.

    Only here: a compiled step takes `Samples` as a pytree, which cannot read a memory map.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device) -> None:
        self.split, self.device = split, device
        smooth = np.issubdtype(split.inputs.dtype, np.floating)
        # Tokens keep their own, small type until they are gathered.
        types = {Task.regression: device.dtype, Task.classification: np.int32}
        self.columns = (
            (split.inputs, device.dtype if smooth else split.inputs.dtype),
            (split.targets, types.get(plan.data.task, split.targets.dtype)),
        )
        self.resident = split.inputs.nbytes <= RESIDENT_BYTES
        inputs = targets = None
        if self.resident:
            inputs, targets = (self._on_devices(array, dtype) for array, dtype in self.columns)
        mean = self._on_devices(plan.data.mean, device.dtype)
        scale = self._on_devices(1 / plan.data.std, device.dtype)
        self.samples = Samples(inputs, targets, mean, scale)

    def _on_devices(self, array: np.ndarray, dtype: DType) -> jax.Array:
        return put_on_devices(array.astype(dtype, copy=False), self.device.everywhere)

    def find(self, indices: np.ndarray, axis: int | None = None) -> BatchRows:
        """Return samples as a compiled step takes them, sharded along `axis`, or replicated if it is None.

        `indices` may have any shape.
        """
        if self.resident:
            return shard(indices.astype(np.int32), self.device, axis)
        inputs, targets = (
            shard(_LazyRows(array, indices, dtype), self.device, axis)
            for array, dtype in self.columns
        )
        return inputs, targets


def gather_batch(
    samples: Samples, chosen: BatchRows, draws: jax.Array | None = None, padding: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Gather samples as stored, and their targets; without `draws` images are not augmented.

    Images are uint8 `[batch, height, width, channels]`, tokens `[batch, length]`. Target tokens are returned
    as classes. `draws` and `padding` are those of `crop`.
    """
    if isinstance(chosen, tuple):
        inputs, targets = chosen
    else:
        assert samples.inputs is not None
        assert samples.targets is not None
        inputs, targets = samples.inputs[chosen], samples.targets[chosen]
    targets = targets if jnp.issubdtype(targets.dtype, jnp.floating) else targets.astype(jnp.int32)
    return (inputs if draws is None else crop(inputs, draws, padding)), targets


def gather_batch_per_device(device: Device, padding: int = 0, axis: int = 0) -> Callable:
    """Make a `gather_batch` for compiled steps: each device prepares its own samples and sends none.

    `axis` is that of the batch; the axes before it are kept. Only here: a torch process has one device.
    """
    own = axis_spec(axis)

    def prepare(samples: Samples, chosen: BatchRows, draws: jax.Array | None) -> PyTree:
        shape = jax.tree.leaves(chosen)[0].shape[: axis + 1]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axis + 1 :]), (chosen, draws))
        prepared = gather_batch(samples, flat[0], flat[1], padding)
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), prepared)

    return jax.shard_map(prepare, mesh=device.mesh, in_specs=(WHOLE, own, own), out_specs=own)


def normalised(samples: Samples, inputs: jax.Array) -> jax.Array:
    """Subtract the mean and divide by the deviation; images stay `[batch, height, width, channels]`.

    Tokens stay integers, int32 `[batch, length]`.
    """
    if inputs.ndim == 2 and not jnp.issubdtype(inputs.dtype, jnp.floating):
        return inputs.astype(jnp.int32)
    return (inputs.astype(samples.mean.dtype) - samples.mean) * samples.scale


def crop(images: jax.Array, draws: jax.Array, padding: int) -> jax.Array:
    """Shift each image by its offsets minus `padding`, fill with zeros, and mirror it where drawn.

    `images` are uint8 `[batch, height, width, channels]`, and `draws` int32 `[batch, 3]`, as
    `BatchPlan.draws`.
    """
    batch, height, width, channels = images.shape
    rows = jnp.arange(height)
    columns = jnp.arange(width)
    y = rows + draws[:, :1] - padding
    x = jnp.where(draws[:, 2:] == 1, width - 1 - columns, columns) + draws[:, 1:2] - padding
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    samples = jnp.arange(batch)[:, None, None]
    pixel = (samples * height + y.clip(0, height - 1)[:, :, None]) * width
    pixel = pixel + x.clip(0, width - 1)[:, None, :]
    cropped = images.reshape(-1, channels)[pixel.ravel()].reshape(images.shape)
    return cropped * inside[..., None].astype(cropped.dtype)


class TrainBatches:
    """Training samples of each compiled call; a batch has `accumulate` micro-batches."""

    def __init__(self, plan: BatchPlan, device: Device, accumulate: int) -> None:
        self.plan, self.device, self.accumulate = plan, device, accumulate
        self.home = _ResidentSplit(plan.data.train, plan, device)
        self._raw = jax.jit(gather_batch, static_argnums=3, out_shardings=device.everywhere)

    def __call__(self, first: int, count: int) -> tuple[Samples, BatchRows, jax.Array | None]:
        """Return the arguments of `count` steps after `first` updates.

        They are the samples, their rows `[count, micro-batches, samples]`, and the augmentation
        `[count, micro-batches, samples, 3]`.
        """
        steps = range(first, first + count)
        chosen = self.home.find(self._parts([self.plan.indices(step) for step in steps]), axis=2)
        if self.plan.augmentation is None:
            return self.home.samples, chosen, None
        drawn = [draws for step in steps if (draws := self.plan.draws(step)) is not None]
        draws = self._parts(drawn).astype(np.int32)
        return self.home.samples, chosen, shard(draws, self.device, axis=2)

    def _parts(self, batches: list[np.ndarray]) -> np.ndarray:
        together = np.stack(batches)
        return together.reshape(len(batches), self.accumulate, -1, *together.shape[2:])

    def augmented(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Return the whole batch after `step` updates, augmented, before normalisation."""
        draws = self.plan.draws(step)
        draws = None if draws is None else shard(draws.astype(np.int32), self.device)
        chosen = self.home.find(self.plan.indices(step))
        return self._raw(self.home.samples, chosen, draws, self.plan.padding)

    def digest(self) -> str:
        """SHA-256 of the pixels and targets of the first batches, as the device receives them."""
        return self.plan.digest(lambda step: jax.device_get(self.augmented(step)))


class EvalBatches:
    """Every sample of a split once, in order; the last batch is padded, and the padding is not counted.

    `batch_size` is rounded up to a multiple of the number of devices.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device, batch_size: int) -> None:
        self.home, self.device = _ResidentSplit(split, plan, device), device
        batch = min(batch_size, len(split))
        batch += -batch % device.devices
        batches = -(-len(split) // batch)
        positions = np.arange(batches * batch).reshape(batches, batch)
        self.indices = np.minimum(positions, len(split) - 1)
        self.counted = (positions < len(split)).astype(device.dtype)

    def __iter__(self) -> Iterator[tuple[Samples, BatchRows, jax.Array]]:
        for indices, counted in zip(self.indices, self.counted, strict=True):
            chosen = self.home.find(indices, axis=0)
            yield self.home.samples, chosen, shard(counted, self.device, axis=0)

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Put all devices' rows of all batches in the order of the split, without the padding."""
        return rows[: len(self.home.split)]
