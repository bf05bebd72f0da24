"""Batches for torch: gathered, cropped, mirrored and normalised many samples at a time."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch

from lightning_impl.device import Device
from pipeline.data.batch_plan import AUGMENT, BatchPlan
from pipeline.data.dataset import Split
from pipeline.data.image_prefetch import ImagePrefetcher, ImageRequest

Batch = dict[str, torch.Tensor]  # the fields by name

COUNTED = "counted"

# Arrays up to this size are kept on the device; larger ones stay memory-mapped.
RESIDENT_BYTES = 4 * 2**30


class Samples:
    """A split, and the constants that prepare its batches on the device."""

    def __init__(self, split: Split, plan: BatchPlan, device: Device) -> None:
        self.device, self.dtype = device.torch_device, device.dtype
        self.fields = {name: _as_tensor(array) for name, array in split.arrays.items()}
        if split.nbytes <= RESIDENT_BYTES:
            self.fields = {name: self.placed(field) for name, field in self.fields.items()}
        self.moments = {
            name: tuple(
                torch.as_tensor(array, dtype=device.dtype, device=self.device)
                for array in (moments.mean, 1 / moments.std)
            )
            for name, moments in plan.data.moments.items()
        }
        self.augmented = plan.augmented

    def placed(self, field: torch.Tensor) -> torch.Tensor:
        """Return a field on the device; integers keep their own, small type."""
        return field.to(self.device, self.dtype if field.is_floating_point() else None)


def gather_batch(
    samples: Samples, indices: np.ndarray, draws: Mapping[str, np.ndarray], padding: int = 0
) -> Batch:
    """Gather samples as stored, with their draws; images are augmented if there are draws for it.

    Images are uint8 `[batch, height, width, channels]`; `padding` is that of `crop`.
    """
    batch = {}
    for name, field in samples.fields.items():
        chosen = torch.from_numpy(indices).to(field.device)
        batch[name] = samples.placed(field.index_select(0, chosen))
    batch |= {name: samples.placed(torch.from_numpy(array)) for name, array in draws.items()}
    if (placed := batch.pop(AUGMENT, None)) is not None:
        batch |= {name: crop(batch[name], placed, padding) for name in samples.augmented}
    return batch


def normalised(samples: Samples, batch: Batch) -> Batch:
    """Return a batch as the model and the loss take it.

    Where a field has moments, the mean is subtracted, and the result divided by the deviation. Images become
    `[batch, channels, height, width]`, and integers int64.
    """

    def prepared(name: str, field: torch.Tensor) -> torch.Tensor:
        if name not in samples.moments:
            return field.to(samples.dtype if field.is_floating_point() else torch.int64)
        mean, scale = samples.moments[name]
        # In place: on a CPU it takes half the time.
        field = field.to(mean.dtype, copy=True).sub_(mean).mul_(scale)
        return field.permute(0, 3, 1, 2) if field.ndim == 4 else field

    return {name: prepared(name, field) for name, field in batch.items()}


def crop(images: torch.Tensor, draws: torch.Tensor, padding: int) -> torch.Tensor:
    """Shift each image by its offsets minus `padding`, fill with zeros, and mirror it where drawn.

    `images` are uint8 `[batch, height, width, channels]`, and `draws` int64 `[batch, 3]`, as
    `BatchPlan.draws`.
    """
    batch, height, width, channels = images.shape
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    y = rows + draws[:, :1] - padding
    x = torch.where(draws[:, 2:] == 1, width - 1 - columns, columns) + draws[:, 1:2] - padding
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    samples = torch.arange(batch, device=images.device)[:, None, None]
    pixel = (samples * height + y.clamp(0, height - 1)[:, :, None]) * width
    pixel = pixel + x.clamp(0, width - 1)[:, None, :]
    cropped = images.reshape(-1, channels).index_select(0, pixel.flatten()).view(images.shape)
    return cropped * inside[..., None]


class TrainBatches:
    """This device's rows of the rest of the current epoch, as a loader for Lightning.

    A batch has `accumulate` micro-batches. `step` returns the updates done so far, which give the data
    position.
    """

    def __init__(
        self, plan: BatchPlan, device: Device, accumulate: int, step: Callable[[], int]
    ) -> None:
        self.plan, self.accumulate, self.step = plan, accumulate, step
        self.samples = Samples(plan.data.train, plan, device)
        # Each micro-batch is sharded over all devices, so it is the same for any number of devices.
        parts = np.arange(plan.batch_size).reshape(accumulate, -1)
        self.rows = parts[:, device.share(parts.shape[1])].flatten()
        own = partial(plan.image_request, part=self.rows)
        self.images = ImagePrefetcher(plan.data.train.stored, own)

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        first, steps_per_epoch, parts = self.step(), self.plan.steps_per_epoch, self.accumulate
        for step in range(first, first - first % steps_per_epoch + steps_per_epoch):
            fields = self.augmented(step, self.rows, self.images(step))
            batch = normalised(self.samples, fields)
            chunks = {name: field.chunk(parts) for name, field in batch.items()}
            for part in range(parts):
                yield {name: fields[part] for name, fields in chunks.items()}

    def augmented(
        self,
        step: int,
        rows: np.ndarray | slice = slice(None),
        images: Mapping[str, np.ndarray] | None = None,
    ) -> Batch:
        """Return rows of the batch after `step` updates, augmented, before normalisation.

        `images` are the stored images of these rows; those of the whole batch are prepared here.
        """
        draws = {name: array[rows] for name, array in self.plan.draws(step).items()}
        draws |= self.plan.take_images(step) if images is None else images
        return gather_batch(self.samples, self.plan.indices(step)[rows], draws, self.plan.padding)

    def close(self) -> None:
        """End the preparation of images."""
        self.images.close()

    def digest(self) -> str:
        """SHA-256 of the first batches, as the device receives them."""

        def arrays(step: int) -> dict[str, np.ndarray]:
            return {name: field.cpu().numpy() for name, field in self.augmented(step).items()}

        return self.plan.digest(arrays)

    # Lightning resumes within an epoch if the loader has these two methods.
    def state_dict(self) -> dict[str, int]:
        """Return the data position."""
        return {"step": self.step()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Do nothing: the position follows from the trainer's step."""


class EvalBatches:
    """Every sample of a split once, in order, each batch split over all devices; the last may be smaller.

    All devices take the same number of batches. A device without a sample in a batch gets a sample that does
    not count: `COUNTED` of the batch has a one for each that does.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device, batch_size: int) -> None:
        self.samples = Samples(split, plan, device)
        self.draws = partial(plan.evaluation_draws, split)
        self.share, self.size, self.batch_size = device.share, len(split), batch_size
        self.images = split.stored

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def rows(self, number: int) -> tuple[np.ndarray, int]:
        """Return the rows that this device takes of a batch, and how many of them are its own."""
        first = number * self.batch_size
        batch = np.arange(first, min(first + self.batch_size, self.size))
        mine = batch[self.share(len(batch))]
        return (mine, mine.size) if mine.size else (batch[:1], 0)

    def __iter__(self) -> Iterator[Batch]:
        def request(number: int) -> ImageRequest:
            return ImageRequest(self.rows(number)[0], None)

        with ImagePrefetcher(self.images, request, len(self)) as images:
            for number in range(len(self)):
                rows, own = self.rows(number)
                fields = gather_batch(self.samples, rows, self.draws(rows) | images(number))
                yield normalised(self.samples, fields) | {COUNTED: torch.ones(own)}

    def in_order(self, rows: torch.Tensor) -> torch.Tensor:
        """Put this device's rows of all batches in the order of the split; other devices' rows are zero."""
        taken = [self.rows(number) for number in range(len(self))]
        own = np.concatenate([rows[:count] for rows, count in taken])
        placed = rows.new_zeros((self.size, *rows.shape[1:]))
        return placed.index_copy(0, torch.from_numpy(own).to(rows.device), rows)


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Tensor that shares the array's memory; nothing writes to it, so a read-only map is safe.

    torch warns of one; JAX copies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
