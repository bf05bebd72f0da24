"""Batches for JAX: gathered, cropped, mirrored and normalised many samples at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import Device
from pipeline.datasets import Split, Task
from pipeline.plan import DataPlan

# Arrays up to this size live on the device; larger ones stay memory-mapped and are gathered there.
RESIDENT_BYTES = 4 * 2**30


class Samples(NamedTuple):
    """A split on the device, and what normalises it. A pytree: compiled steps take it whole.

    Args:
        inputs: uint8 `[samples, height, width, channels]`, numbers `[samples, features]`, or
            tokens, uint8 `[samples, length]`.
        targets: classes `[samples]`, values `[samples, outputs]`, or tokens `[samples, length]`.
        mean: of each channel.
        scale: one over each channel's deviation.
    """

    inputs: jax.Array
    targets: jax.Array
    mean: jax.Array
    scale: jax.Array


class Home:
    """Where a split lives: on the device, or too large for it, memory-mapped.

    Only here: a compiled step takes `Samples` as a pytree; torch's tell by themselves where they are.

    Args:
        split: the arrays.
        plan: for the normalisation and the type of target.
        device: for the number type.
    """

    def __init__(self, split: Split, plan: DataPlan, device: Device) -> None:
        self.split = split
        # Tokens keep their own, small type until they are gathered.
        types = {Task.regression: device.dtype, Task.classification: jnp.int32}
        self.target_type = types.get(plan.data.task)
        self.mean = jnp.asarray(plan.data.mean, device.dtype)
        self.scale = jnp.asarray(1 / plan.data.std, device.dtype)
        self.resident = split.inputs.nbytes <= RESIDENT_BYTES
        self.samples = self._on_device(slice(None)) if self.resident else None

    def _on_device(self, indices: np.ndarray | slice) -> Samples:
        targets = jnp.asarray(self.split.targets[indices], self.target_type)
        return Samples(jnp.asarray(self.split.inputs[indices]), targets, self.mean, self.scale)

    def find(self, indices: np.ndarray) -> tuple[Samples, np.ndarray]:
        """Samples on the device and where in them the wanted ones are: int32, shape as `indices`."""
        if self.resident:
            return self.samples, indices.astype(np.int32)
        return self._on_device(indices.ravel()), np.arange(indices.size, dtype=np.int32).reshape(
            indices.shape
        )


def raw(
    samples: Samples, indices: jax.Array, draws: jax.Array | None = None, padding: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Samples as they are stored, and their targets.

    Images are uint8 `[batch, height, width, channels]`, tokens `[batch, length]`; targets that are
    tokens come as the classes that they stand for.

    Args:
        samples: on the device.
        indices: which of them.
        draws: row offset, column offset and mirror bit of each; None leaves the images alone.
        padding: zeros around an image before the crop.
    """
    inputs, targets = samples.inputs[indices], samples.targets[indices]
    targets = targets if jnp.issubdtype(targets.dtype, jnp.floating) else targets.astype(jnp.int32)
    return (inputs if draws is None else crop(inputs, draws, padding)), targets


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
    """

    def __init__(self, plan: DataPlan, device: Device) -> None:
        self.plan = plan
        self.home = Home(plan.data.train, plan, device)

    def __call__(self, first: int, count: int) -> tuple[Samples, np.ndarray, np.ndarray | None]:
        """What the steps after `first` updates take.

        Returns:
            The samples, their indices `[count, batch]`, and the augmentation `[count, batch, 3]`.
        """
        steps = range(first, first + count)
        samples, indices = self.home.find(np.stack([self.plan.indices(step) for step in steps]))
        if self.plan.augmentation is None:
            return samples, indices, None
        draws = np.stack([self.plan.draws(step) for step in steps])
        return samples, indices, draws.astype(np.int32)

    def augmented(self, step: int) -> tuple[jax.Array, jax.Array]:
        """The whole batch after `step` updates, augmented, before normalisation."""
        samples, indices, draws = self(step, 1)
        return raw(samples, indices[0], None if draws is None else draws[0], self.plan.padding)

    def digest(self) -> str:
        """SHA-256 of the pixels and targets of the first batches, as they reach the device."""
        return self.plan.digest(lambda step: jax.device_get(self.augmented(step)))


class EvalBatches:
    """Every sample of a split once, in order; the last batch is filled up and the filling not counted.

    Args:
        split: to evaluate.
        plan: for the normalisation.
        device: where batches go.
        batch_size: of an evaluation.
    """

    def __init__(self, split: Split, plan: DataPlan, device: Device, batch_size: int) -> None:
        self.home = Home(split, plan, device)
        batch = min(batch_size, len(split))
        batches = -(-len(split) // batch)
        positions = np.arange(batches * batch).reshape(batches, batch)
        self.indices = np.minimum(positions, len(split) - 1)
        self.counted = (positions < len(split)).astype(device.dtype)

    def __iter__(self) -> Iterator[tuple[Samples, np.ndarray, np.ndarray]]:
        for indices, counted in zip(self.indices, self.counted, strict=True):
            yield *self.home.find(indices), counted
