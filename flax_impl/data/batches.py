"""Batches for JAX: gathered, cropped, mirrored and normalised many samples at a time."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import Device, DType, PyTree
from flax_impl.sharding import WHOLE, axis_spec, put_on_devices, shard
from pipeline.data.batch_plan import AUGMENT, BatchPlan
from pipeline.data.dataset import Split
from pipeline.data.image_prefetch import ImagePrefetcher, ImageRequest
from pipeline.rng import generator

# Arrays up to this size are kept on the device; larger ones stay memory-mapped.
RESIDENT_BYTES = 4 * 2**30


Batch = dict[str, jax.Array]  # the fields by name
# Samples of a batch: indices into a resident split, or the rows themselves.
BatchRows = jax.Array | Batch


class Samples(NamedTuple):
    """A split on the device, and the constants that normalise it. A pytree: compiled steps take it whole."""

    fields: Batch | None  # all samples of each field; None for a split that is not resident
    moments: dict[
        str, tuple[jax.Array, jax.Array]
    ]  # mean, and reciprocal of each channel's deviation


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
        self.types = {name: _device_type(array, device) for name, array in split.arrays.items()}
        self.resident = split.nbytes <= RESIDENT_BYTES
        fields = None
        if self.resident:
            fields = {n: self._on_devices(a, self.types[n]) for n, a in split.arrays.items()}
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


def _device_type(array: np.ndarray, device: Device) -> DType:
    """Type of a field on the device; small integers keep theirs until they are gathered."""
    if np.issubdtype(array.dtype, np.floating):
        return device.dtype
    return np.dtype(np.int32) if array.dtype.itemsize > 4 else array.dtype


class _OwnImages:
    """Stored images of this process's rows of a batch, at their places in the whole batch.

    Only here: a torch process takes its own rows only, an array of JAX has those of all processes.
    """

    def __init__(self, device: Device, size: int, accumulate: int = 1) -> None:
        parts = np.arange(size).reshape(accumulate, -1)
        share, self.size = parts.shape[1] // device.world.size, size
        first = device.world.rank * share
        self.rows = parts[:, first : first + share].flatten()

    def placed(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the images in arrays of the whole batch; the rows of other processes hold anything."""
        if len(self.rows) == self.size:
            return dict(images)
        whole = {n: np.empty((self.size, *own.shape[1:]), own.dtype) for n, own in images.items()}
        for name, own in images.items():
            whole[name][self.rows] = own
        return whole


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


def gather_batch(
    samples: Samples,
    chosen: BatchRows,
    draws: Batch,
    augmented: tuple[str, ...] = (),
    padding: int = 0,
) -> Batch:
    """Gather samples as stored, with their draws; images are augmented if there are draws for it.

    Images are uint8 `[batch, height, width, channels]`; `padding` is that of `crop`, and `augmented` names
    the images.
    """
    if isinstance(chosen, dict):
        batch = chosen
    else:
        assert samples.fields is not None
        batch = {name: field[chosen] for name, field in samples.fields.items()}
    batch = batch | draws
    if (placed := batch.pop(AUGMENT, None)) is not None:
        batch |= {name: crop(batch[name], placed, padding) for name in augmented}
    return batch


def gather_batch_per_device(device: Device, plan: BatchPlan, axis: int = 0) -> Callable:
    """Make a `gather_batch` for compiled steps: each device prepares its own samples and sends none.

    `axis` is that of the batch; the axes before it are kept. Only here: a torch process has one device.
    """
    own = axis_spec(axis)

    def prepare(samples: Samples, chosen: BatchRows, draws: Batch) -> PyTree:
        shape = jax.tree.leaves(chosen)[0].shape[: axis + 1]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axis + 1 :]), (chosen, draws))
        prepared = gather_batch(samples, flat[0], flat[1], plan.augmented, plan.padding)
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), prepared)

    return jax.shard_map(prepare, mesh=device.mesh, in_specs=(WHOLE, own, own), out_specs=own)


def normalised(samples: Samples, batch: Batch) -> Batch:
    """Return a batch as the model and the loss take it.

    Where a field has moments, the mean is subtracted, and the result divided by the deviation. Images stay
    `[batch, height, width, channels]`, and integers become int32.
    """

    def prepared(name: str, field: jax.Array) -> jax.Array:
        if name not in samples.moments:
            return field if jnp.issubdtype(field.dtype, jnp.floating) else field.astype(jnp.int32)
        mean, scale = samples.moments[name]
        return (field.astype(mean.dtype) - mean) * scale

    return {name: prepared(name, field) for name, field in batch.items()}


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
        self.own = _OwnImages(device, plan.batch_size, accumulate)
        own = partial(plan.image_request, part=self.own.rows)
        self.images = ImagePrefetcher(plan.data.train.stored, own)
        self._raw = jax.jit(gather_batch, static_argnums=(3, 4), out_shardings=device.everywhere)

    @property
    def steps_per_call(self) -> int:
        """Number of training steps in one compiled call; 1 with stored images, which fill the memory."""
        return 1 if self.plan.data.train.stored else self.device.steps_per_call

    def __call__(self, first: int, count: int) -> tuple[Samples, BatchRows, Batch, jax.Array]:
        """Return the arguments of `count` steps after `first` updates.

        They are the samples, their rows `[count, micro-batches, samples]`, their draws `[count,
        micro-batches, samples, …]`, and the terms of the batches' mean losses `[count]`.
        """
        steps = range(first, first + count)
        chosen = self.home.find(self._parts([self.plan.indices(step) for step in steps]), axis=2)
        drawn = [self.plan.draws(step) | self.own.placed(self.images(step)) for step in steps]
        draws = {name: self._parts([draw[name] for draw in drawn]) for name in drawn[0]}
        terms = np.array([self.plan.terms(step) for step in steps], self.device.dtype)
        placed = self.home.place_draws(draws, axis=2)
        return self.home.samples, chosen, placed, shard(terms, self.device)

    def _parts(self, batches: list[np.ndarray]) -> np.ndarray:
        together = np.stack(batches) if len(batches) > 1 else batches[0][None]
        return together.reshape(len(batches), self.accumulate, -1, *together.shape[2:])

    def augmented(self, step: int) -> Batch:
        """Return the whole batch after `step` updates, augmented, before normalisation."""
        draws = self.home.place_draws(self.plan.draws(step) | self.plan.take_images(step))
        chosen = self.home.find(self.plan.indices(step))
        plan = self.plan
        return self._raw(self.home.samples, chosen, draws, plan.augmented, plan.padding)

    def close(self) -> None:
        """End the preparation of images."""
        self.images.close()

    def digest(self) -> str:
        """SHA-256 of the first batches, as the device receives them."""
        return self.plan.digest(lambda step: jax.device_get(self.augmented(step)))


class EvalBatches:
    """Every sample of a split once, in order; the last batch is padded, and the padding is not counted.

    `batch_size` is rounded up to a multiple of the number of devices.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device, batch_size: int) -> None:
        self.home, self.device = _ResidentSplit(split, plan, device), device
        self.draws = partial(plan.evaluation_draws, split)
        batch = min(batch_size, len(split))
        batch += -batch % device.devices
        self.size, self.batch_size = len(split), batch
        self.images, self.own = split.stored, _OwnImages(device, batch)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def rows(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a batch, and 1 for each that is counted, 0 for padding."""
        first = number * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        counted = (positions < self.size).astype(self.device.dtype)
        return np.minimum(positions, self.size - 1), counted

    def __iter__(self) -> Iterator[tuple[Samples, BatchRows, Batch, jax.Array]]:
        def request(number: int) -> ImageRequest:
            return ImageRequest(self.rows(number)[0][self.own.rows], None)

        with ImagePrefetcher(self.images, request, len(self)) as images:
            for number in range(len(self)):
                indices, counted = self.rows(number)
                chosen = self.home.find(indices, axis=0)
                drawn = self.draws(indices) | self.own.placed(images(number))
                draws = self.home.place_draws(drawn, axis=0)
                yield self.home.samples, chosen, draws, shard(counted, self.device, axis=0)

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Put all devices' rows of all batches in the order of the split, without the padding."""
        return rows[: self.size]
