"""Batches for JAX: gathered, cropped, mirrored and normalised many samples at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.device import Device, PyTree
from flax_impl.sharding import WHOLE, axis_spec
from pipeline.data.batch_plan import BatchPlan


def gather_batch(
    samples: Samples,
    chosen: BatchRows,
    draws: Batch,
    augmented: tuple[tuple[str, str], ...] = (),
    padding: int = 0,
) -> Batch:
    """Gather samples as stored, with their draws; images are augmented if there are draws for it.

    Images are uint8 `[batch, height, width, channels]`; `padding` is that of `crop`, and `augmented` names
    the images, each with its draws.
    """
    if isinstance(chosen, dict):
        batch = chosen
    else:
        assert samples.fields is not None
        batch = {name: field[chosen] for name, field in samples.fields.items()}
    batch = batch | draws
    for name, drawn in augmented:
        if drawn in draws and name in batch:
            batch[name] = crop(batch[name], batch[drawn], padding)
    placements = {drawn for _, drawn in augmented}
    return {name: field for name, field in batch.items() if name not in placements}


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
