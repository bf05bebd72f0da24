"""Batches for torch: gathered, cropped, mirrored and normalised many samples at a time."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch

from lightning_impl.device import Device
from pipeline.datasets import Split, Task
from pipeline.plan import DataPlan

Batch = tuple[torch.Tensor, torch.Tensor]

# Arrays up to this size live on the device; larger ones stay memory-mapped and are gathered there.
RESIDENT_BYTES = 4 * 2**30


class Samples:
    """A split, and how a batch of it comes to the device.

    Args:
        split: the arrays.
        plan: for the normalisation and the type of target.
        device: where batches go.
    """

    def __init__(self, split: Split, plan: DataPlan, device: Device) -> None:
        self.device = device.torch_device
        home = self.device if split.inputs.nbytes <= RESIDENT_BYTES else torch.device("cpu")
        inputs, targets = _as_tensor(split.inputs), _as_tensor(split.targets)
        if inputs.is_floating_point():  # vectors; images and tokens stay bytes until they are used
            inputs = inputs.to(device.dtype)
        if plan.data.task is Task.regression:
            targets = targets.to(device.dtype)
        self.inputs, self.targets = inputs.to(home), targets.to(home)
        self.mean = torch.as_tensor(plan.data.mean, dtype=device.dtype, device=self.device)
        self.scale = torch.as_tensor(1 / plan.data.std, dtype=device.dtype, device=self.device)


def raw(
    samples: Samples, indices: np.ndarray, draws: np.ndarray | None = None, padding: int = 0
) -> Batch:
    """Samples as they are stored, and their targets.

    Images are uint8 `[batch, height, width, channels]`, tokens `[batch, length]`; targets that are
    tokens come as the classes that they stand for.

    Args:
        samples: on the device, or memory-mapped.
        indices: which of them.
        draws: row offset, column offset and mirror bit of each; None leaves the images alone.
        padding: zeros around an image before the crop.
    """
    device, chosen = samples.device, torch.from_numpy(indices).to(samples.inputs.device)
    inputs = samples.inputs.index_select(0, chosen).to(device)
    targets = samples.targets.index_select(0, chosen).to(device)
    targets = targets if targets.is_floating_point() else targets.long()
    if draws is not None:
        inputs = crop(inputs, torch.from_numpy(draws).to(device), padding)
    return inputs, targets


def normalised(samples: Samples, inputs: torch.Tensor) -> torch.Tensor:
    """Inputs less the mean over the deviation; images as `[batch, channels, height, width]`.

    Tokens stay whole numbers, int64 `[batch, length]`.
    """
    if inputs.ndim == 2 and not inputs.is_floating_point():
        return inputs.long()
    inputs = (inputs.to(samples.mean.dtype) - samples.mean) * samples.scale
    return inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs


def crop(images: torch.Tensor, draws: torch.Tensor, padding: int) -> torch.Tensor:
    """Shift each image by its offsets less `padding`, zeros coming in, and mirror where asked.

    Args:
        images: uint8 `[batch, height, width, channels]`.
        draws: int64 `[batch, 3]`, as `DataPlan.draws`.
        padding: the largest shift.
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
    """This device's rows of the rest of the epoch that the step lies in, as Lightning asks for it.

    Args:
        plan: which samples when.
        device: where batches go.
        accumulate: parts that each batch comes in.
        step: tells the updates done so far; the whole data position follows from it.
    """

    def __init__(
        self, plan: DataPlan, device: Device, accumulate: int, step: Callable[[], int]
    ) -> None:
        self.plan, self.accumulate, self.step = plan, accumulate, step
        self.samples = Samples(plan.data.train, plan, device)
        # Each part is shared by all devices, so that it is the same for any number of them.
        parts = np.arange(plan.batch_size).reshape(accumulate, -1)
        self.rows = parts[:, device.share(parts.shape[1])].flatten()

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.accumulate

    def __iter__(self) -> Iterator[Batch]:
        first = self.step()
        for step in range(
            first, first - first % self.plan.steps_per_epoch + self.plan.steps_per_epoch
        ):
            inputs, targets = self.augmented(step, self.rows)
            inputs = normalised(self.samples, inputs)
            yield from zip(
                inputs.chunk(self.accumulate), targets.chunk(self.accumulate), strict=True
            )

    def augmented(self, step: int, rows: np.ndarray | slice = slice(None)) -> Batch:
        """Rows of the batch after `step` updates, augmented, before normalisation."""
        indices, draws = self.plan.indices(step), self.plan.draws(step)
        draws = None if draws is None else draws[rows]
        return raw(self.samples, indices[rows], draws, self.plan.padding)

    def digest(self) -> str:
        """SHA-256 of the pixels and targets of the first batches, as they reach the device."""
        return self.plan.digest(
            lambda step: tuple(tensor.cpu().numpy() for tensor in self.augmented(step))
        )

    # Lightning takes a loader with these two for one that can go on in mid-epoch.
    def state_dict(self) -> dict[str, int]:
        """The data position."""
        return {"step": self.step()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to load: the position follows from the trainer's own step."""


class EvalBatches:
    """Every sample of a split once, in order, each batch shared by all devices; the last may be smaller.

    All devices take the same number of batches. One that has no sample in a batch gets an input without
    a target.

    Args:
        split: to evaluate.
        plan: for the normalisation.
        device: where batches go.
        batch_size: of an evaluation.
    """

    def __init__(self, split: Split, plan: DataPlan, device: Device, batch_size: int) -> None:
        self.samples = Samples(split, plan, device)
        batches = np.array_split(np.arange(len(split)), range(batch_size, len(split), batch_size))
        self.batches = [(batch, batch[device.share(len(batch))]) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch, mine in self.batches:
            inputs, targets = raw(self.samples, mine if mine.size else batch[:1])
            yield normalised(self.samples, inputs), targets[: mine.size]

    def in_order(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of all batches as those of the split, with zeros for the other devices' samples.

        Args:
            rows: of this device's samples, in the order in which they came.
        """
        own = np.concatenate([mine for _, mine in self.batches])
        placed = rows.new_zeros((sum(len(batch) for batch, _ in self.batches), *rows.shape[1:]))
        return placed.index_copy(0, torch.from_numpy(own).to(rows.device), rows)


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """The array's own memory as a tensor; nobody writes to it, so a read-only map will do.

    torch warns of one; JAX copies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
