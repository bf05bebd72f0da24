"""Batches for JAX: gathered, cropped, mirrored and normalised many samples at a time."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import Device
from flax_impl.sharding import WHOLE, along, place, share
from pipeline.datasets import Split, Task
from pipeline.plan import DataPlan

# Arrays up to this size live on the device; larger ones stay memory-mapped and are gathered there.
RESIDENT_BYTES = 4 * 2**30


# Samples of a batch: where in a resident split they are, or where it is not resident, its rows.
Chosen = jax.Array | tuple[jax.Array, jax.Array]


class Samples(NamedTuple):
    """A split on the device, and what normalises it. A pytree: compiled steps take it whole.

    Args:
        inputs: uint8 `[samples, height, width, channels]`, numbers `[samples, features]`, or
            tokens, uint8 `[samples, length]`; None where a split is not resident.
        targets: classes `[samples]`, values `[samples, outputs]`, or tokens `[samples, length]`.
        mean: of each channel.
        scale: one over each channel's deviation.
    """

    inputs: jax.Array | None
    targets: jax.Array | None
    mean: jax.Array
    scale: jax.Array


class Rows:
    """Rows of a memory-mapped array, read when and where they are asked for.

    Only here: a process of JAX fills several devices, one of torch its own.

    Args:
        array: `[samples, …]`.
        indices: of samples, in any shape.
        dtype: of the rows.
    """

    def __init__(self, array: np.ndarray, indices: np.ndarray, dtype: Any) -> None:
        self.array, self.indices, self.dtype = array, indices, dtype
        self.shape = indices.shape + array.shape[1:]

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """A part, which is cut along no axis of a sample."""
        return self.array[self.indices[index[: self.indices.ndim]]].astype(self.dtype)


class Home:
    """Where a split lives: on every device, or too large for that, memory-mapped.

    Only here: a compiled step takes `Samples` as a pytree; torch's tell by themselves where they are.

    Args:
        split: the arrays.
        plan: for the normalisation and the type of target.
        device: where batches go.
    """

    def __init__(self, split: Split, plan: DataPlan, device: Device) -> None:
        self.split, self.device = split, device
        smooth = np.issubdtype(split.inputs.dtype, np.floating)
        # Tokens keep their own, small type until they are gathered.
        types = {Task.regression: device.dtype, Task.classification: np.int32}
        self.types = (
            device.dtype if smooth else split.inputs.dtype,
            types.get(plan.data.task, split.targets.dtype),
        )
        self.resident = split.inputs.nbytes <= RESIDENT_BYTES
        arrays = (None, None)
        if self.resident:
            arrays = (self._on_devices(array, dtype) for array, dtype in self._typed())
        moments = (plan.data.mean, 1 / plan.data.std)
        self.samples = Samples(
            *arrays, *(self._on_devices(moment, device.dtype) for moment in moments)
        )

    def _typed(self) -> Iterator[tuple[np.ndarray, Any]]:
        return zip((self.split.inputs, self.split.targets), self.types, strict=True)

    def _on_devices(self, array: np.ndarray, dtype: Any) -> jax.Array:
        return place(array.astype(dtype, copy=False), self.device.everywhere)

    def find(self, indices: np.ndarray, axis: int | None = None) -> Chosen:
        """What a compiled step takes for samples, each device its block of an axis.

        Args:
            indices: of the samples, in any shape.
            axis: of the batch in it; None: each device takes all of them.
        """
        if self.resident:
            return share(indices.astype(np.int32), self.device, axis)
        return tuple(
            share(Rows(array, indices, dtype), self.device, axis) for array, dtype in self._typed()
        )


def raw(
    samples: Samples, chosen: Chosen, draws: jax.Array | None = None, padding: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Samples as they are stored, and their targets.

    Images are uint8 `[batch, height, width, channels]`, tokens `[batch, length]`; targets that are
    tokens come as the classes that they stand for.

    Args:
        samples: on the device.
        chosen: which of them, or their rows.
        draws: row offset, column offset and mirror bit of each; None leaves the images alone.
        padding: zeros around an image before the crop.
    """
    rows = (
        chosen if isinstance(chosen, tuple) else (samples.inputs[chosen], samples.targets[chosen])
    )
    inputs, targets = rows
    targets = targets if jnp.issubdtype(targets.dtype, jnp.floating) else targets.astype(jnp.int32)
    return (inputs if draws is None else crop(inputs, draws, padding)), targets


def raw_on_each(device: Device, padding: int = 0, axis: int = 0) -> Callable:
    """`raw` as a compiled step calls it: each device prepares its own samples, and sends none.

    Only here: a process of torch has one device.

    Args:
        device: all devices of the run.
        padding: see `raw`.
        axis: of the batch; what is before it comes back as it was.
    """
    own = along(axis)

    def prepare(samples: Samples, chosen: Chosen, draws: jax.Array | None) -> Any:
        shape = jax.tree.leaves(chosen)[0].shape[: axis + 1]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axis + 1 :]), (chosen, draws))
        prepared = raw(samples, *flat, padding)
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), prepared)

    return jax.shard_map(prepare, mesh=device.mesh, in_specs=(WHOLE, own, own), out_specs=own)


def normalised(samples: Samples, inputs: jax.Array) -> jax.Array:
    """Inputs less the mean over the deviation; images as `[batch, height, width, channels]`.

    Tokens stay whole numbers, int32 `[batch, length]`.
    """
    if inputs.ndim == 2 and not jnp.issubdtype(inputs.dtype, jnp.floating):
        return inputs.astype(jnp.int32)
    return (inputs.astype(samples.mean.dtype) - samples.mean) * samples.scale


def crop(images: jax.Array, draws: jax.Array, padding: int) -> jax.Array:
    """Shift each image by its offsets less `padding`, zeros coming in, and mirror where asked.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        draws: int32 `[batch, 3]`, as `DataPlan.draws`.
        padding: the largest shift.
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
    """The training samples of each compiled call.

    Args:
        plan: which samples when.
        device: where batches go.
        accumulate: parts that each batch comes in.
    """

    def __init__(self, plan: DataPlan, device: Device, accumulate: int) -> None:
        self.plan, self.device, self.accumulate = plan, device, accumulate
        self.home = Home(plan.data.train, plan, device)
        self._raw = jax.jit(raw, static_argnums=3, out_shardings=device.everywhere)

    def __call__(self, first: int, count: int) -> tuple[Samples, Chosen, jax.Array | None]:
        """What the steps after `first` updates take.

        Returns:
            The samples, which of them `[count, parts, batch]`, and the augmentation
            `[count, parts, batch, 3]`.
        """
        steps = range(first, first + count)
        chosen = self.home.find(self._parts([self.plan.indices(step) for step in steps]), axis=2)
        if self.plan.augmentation is None:
            return self.home.samples, chosen, None
        draws = self._parts([self.plan.draws(step) for step in steps]).astype(np.int32)
        return self.home.samples, chosen, share(draws, self.device, axis=2)

    def _parts(self, batches: list[np.ndarray]) -> np.ndarray:
        together = np.stack(batches)
        return together.reshape(len(batches), self.accumulate, -1, *together.shape[2:])

    def augmented(self, step: int) -> tuple[jax.Array, jax.Array]:
        """The whole batch after `step` updates, augmented, before normalisation."""
        draws = self.plan.draws(step)
        draws = None if draws is None else share(draws.astype(np.int32), self.device)
        chosen = self.home.find(self.plan.indices(step))
        return self._raw(self.home.samples, chosen, draws, self.plan.padding)

    def digest(self) -> str:
        """SHA-256 of the pixels and targets of the first batches, as they reach the device."""
        return self.plan.digest(lambda step: jax.device_get(self.augmented(step)))


class EvalBatches:
    """Every sample of a split once, in order; the last batch is filled up and the filling not counted.

    Args:
        split: to evaluate.
        plan: for the normalisation.
        device: where batches go.
        batch_size: of an evaluation; more, if so many devices cannot share it evenly.
    """

    def __init__(self, split: Split, plan: DataPlan, device: Device, batch_size: int) -> None:
        self.home, self.device = Home(split, plan, device), device
        batch = min(batch_size, len(split))
        batch += -batch % device.devices
        batches = -(-len(split) // batch)
        positions = np.arange(batches * batch).reshape(batches, batch)
        self.indices = np.minimum(positions, len(split) - 1)
        self.counted = (positions < len(split)).astype(device.dtype)

    def __iter__(self) -> Iterator[tuple[Samples, Chosen, jax.Array]]:
        for indices, counted in zip(self.indices, self.counted, strict=True):
            chosen = self.home.find(indices, axis=0)
            yield self.home.samples, chosen, share(counted, self.device, axis=0)

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Rows of all batches as those of the split, without what filled up the last batch.

        Args:
            rows: of all devices' samples, in the order in which they came.
        """
        return rows[: len(self.home.split)]
