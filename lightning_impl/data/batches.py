"""Batches of a training and of an evaluation, as loaders for Lightning."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch

from lightning_impl.data.gather import gather_batch, normalised
from lightning_impl.data.samples import Batch, Samples
from lightning_impl.device import Device
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split
from pipeline.data.prefetch import Prefetcher, RowRequest

COUNTED = "counted"
MOST_STEPS, BLOCK_BYTES = 32, 2**18  # of the training batches that are prepared together


class TrainBatches:
    """This device's rows of the rest of the current epoch, as a loader for Lightning.

    A batch has `accumulate` micro-batches, which come one by one, or all at once for a task whose loss takes
    a whole batch. `step` returns the updates done so far, which give the data position.
    """

    def __init__(
        self, plan: BatchPlan, device: Device, accumulate: int, step: Callable[[], int]
    ) -> None:
        self.plan, self.step = plan, step
        self.parts = plan.data.task.summed_parts(accumulate)
        self.samples = Samples(plan.data.train, plan, device)
        # Each micro-batch is sharded over all devices, so it is the same for any number of devices.
        parts = np.arange(plan.batch_size).reshape(accumulate, -1)
        self.rows = parts[:, device.share(parts.shape[1])].flatten()
        own = partial(plan.row_request, part=self.rows)
        self.stored = Prefetcher(plan.data.train.stored, own)
        # Small batches of several steps are prepared together; stored fields ahead, step by step.
        batch = plan.data.train.nbytes * plan.batch_size // len(plan.data.train)
        self.steps = 1 if plan.data.train.stored else max(1, min(MOST_STEPS, BLOCK_BYTES // batch))

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.parts

    def __iter__(self) -> Iterator[Batch]:
        first, steps_per_epoch, parts = self.step(), self.plan.steps_per_epoch, self.parts
        end = first - first % steps_per_epoch + steps_per_epoch
        for step in range(first, end, self.steps):
            count = min(self.steps, end - step)
            rows = (np.arange(count)[:, None] * self.plan.batch_size + self.rows).ravel()
            fields = self.augmented(step, rows, self.stored(step), count)
            block = normalised(self.samples, fields)
            if count * parts == 1:
                yield block
                continue
            chunks = {name: field.chunk(count * parts) for name, field in block.items()}
            for part in range(count * parts):
                yield {name: fields[part] for name, fields in chunks.items()}

    def augmented(
        self,
        step: int,
        rows: np.ndarray | slice = slice(None),
        stored: Mapping[str, np.ndarray] | None = None,
        steps: int = 1,
    ) -> Batch:
        """Return rows of the batch after `step` updates and of further ones, augmented, before normalisation.

        `stored` are the stored fields of these rows; those of the whole batch are prepared here.
        """
        draws = {name: array[rows] for name, array in self.plan.draws(step, steps).items()}
        draws |= self.plan.take_stored(step) if stored is None else stored
        return gather_batch(self.samples, self.plan.indices(step, steps)[rows], draws)

    def close(self) -> None:
        """End the preparation of stored fields."""
        self.stored.close()

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

    All devices take the same number of batches, each whole groups of the task. A device without a sample in
    a batch gets a sample that does not count: `COUNTED` of the batch has a one for each that does.
    `batch_size` is rounded up to a multiple of the group.
    """

    def __init__(self, split: Split, plan: BatchPlan, device: Device, batch_size: int) -> None:
        self.samples = Samples(split, plan, device)
        self.draws = partial(plan.evaluation_draws, split)
        self.requested = partial(plan.evaluation_request, split)
        self.group = plan.data.task.group
        self.share, self.size = device.share, len(split)
        self.batch_size = plan.data.task.whole_groups(batch_size)
        self.stored = split.stored

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def rows(self, number: int) -> tuple[np.ndarray, int]:
        """Return the rows that this device takes of a batch, and how many of them are its own."""
        first = number * self.batch_size
        batch = np.arange(first, min(first + self.batch_size, self.size))
        groups = self.share(-(-len(batch) // self.group))
        mine = batch[groups.start * self.group : groups.stop * self.group]
        return (mine, mine.size) if mine.size else (batch[:1], 0)

    def __iter__(self) -> Iterator[Batch]:
        def request(number: int) -> RowRequest:
            return self.requested(self.rows(number)[0])

        with Prefetcher(self.stored, request, len(self)) as stored:
            for number in range(len(self)):
                rows, own = self.rows(number)
                fields = gather_batch(self.samples, rows, self.draws(rows) | stored(number))
                yield normalised(self.samples, fields) | {
                    COUNTED: torch.ones(own, device=self.samples.device)
                }

    def in_order(self, rows: torch.Tensor) -> torch.Tensor:
        """Put this device's rows of all batches in the order of the split; other devices' rows are zero."""
        taken = [self.rows(number) for number in range(len(self))]
        own = np.concatenate([rows[:count] for rows, count in taken])
        placed = rows.new_zeros((self.size, *rows.shape[1:]))
        return placed.index_copy(0, torch.from_numpy(own).to(rows.device), rows)
