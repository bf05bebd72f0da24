"""The batch plan: order and augmentation of the training samples, the same on both backends.

It depends only on the seed and the step (the epoch follows), so resuming needs only the step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.config.experiment import Config
from pipeline.data.dataset import Data, Form, Split, form_of
from pipeline.data.image_augmentation import sample_words
from pipeline.data.prefetch import RowRequest
from pipeline.data.sample_order import bounded, epoch_order
from pipeline.data.stored_images import StoredImages
from pipeline.digest import digest
from pipeline.errors import UserError
from pipeline.rng import generator, random_keys, random_words

DIGESTED_STEPS = 4  # batches that the data digest covers
AUGMENT = "augment"  # name of the draws of the augmentation; those of a view are `augment/view`
EVALUATION = "evaluation"  # takes the place of the epoch
BLOCK = 64  # samples of an evaluation whose noise is drawn together


@dataclass(frozen=True)
class Augmentation:
    """Random crop after zero padding of `padding` pixels a side, then a random horizontal flip."""

    padding: int
    flip: bool


@dataclass(frozen=True)
class BatchPlan:
    """A data set and the batches drawn from it; `seed` keys the order and the augmentation."""

    data: Data
    seed: int
    batch_size: int  # over all devices and micro-batches
    augmentation: Augmentation | None

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in the training set."""
        return len(self.data.train) // self.batch_size

    @property
    def padding(self) -> int:
        """Pixels of zeros on each side of a training image before the crop."""
        return self.augmentation.padding if self.augmentation else 0

    @property
    def augmented(self) -> tuple[tuple[str, str], ...]:
        """Fields that the device crops and mirrors, images that are not cropped before.

        Each has the name of its draws: one for all fields, and one for each view.
        """
        fields, views = self.data.train.fields if self.augmentation else {}, self.data.task.views
        images = {name: field for name, field in fields.items() if form_of(field) is Form.images}
        return tuple(
            (name, f"{AUGMENT}/{name}" if name in views else AUGMENT)
            for name, field in images.items()
            if not isinstance(field, StoredImages)
        )

    def digest(self, batch: Callable[[int], Mapping[str, np.ndarray]]) -> str:
        """SHA-256 of the first batches as a backend feeds them.

        `batch` maps a step to the fields of its batch, augmented, not normalised.
        """
        arrays = {}
        for step in range(min(DIGESTED_STEPS, self.steps_per_epoch)):
            for name, array in batch(step).items():
                # Backends have the same numbers in a field, but integers of other types.
                kept = array.dtype == np.uint8
                arrays[f"{name}/{step}"] = array if kept else array.astype(np.float64)
        return digest(arrays)

    def indices(self, step: int, steps: int = 1) -> np.ndarray:
        """Sample indices of the batch after `step` updates, int64 `[batch_size]`.

        Those of further steps of the same epoch follow.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        first, size = position * self.batch_size, len(self.data.train)
        return epoch_order(self.seed, epoch, size, first, first + steps * self.batch_size)

    def draws(self, step: int, steps: int = 1) -> dict[str, np.ndarray]:
        """Random numbers of the samples of the batch after `step` updates, `[batch_size, …]` each.

        They are the noise of the task, and those of the augmentation; see `augmented`. Those of further steps
        of the same epoch follow.
        """
        shapes, task = self.data.train.shapes(self.batch_size), self.data.task
        drawn = {
            name: np.concatenate(
                [
                    task.draw(name, generator(self.seed, name, one), shapes)
                    for one in range(step, step + steps)
                ]
            )
            for name in task.noise
        }
        if self.augmented:
            rows = self.indices(step, steps)
            drawn |= self._placements(self.seed, step // self.steps_per_epoch, rows)
        return drawn

    def _placements(self, seed: int, epoch: int | str, rows: np.ndarray) -> dict[str, np.ndarray]:
        assert self.augmentation is not None
        return {
            name: augmentation_draws(seed, epoch, rows, self.augmentation, *name.split("/")[1:])
            for name in dict(self.augmented).values()
        }

    def row_request(self, step: int, part: slice | np.ndarray = slice(None)) -> RowRequest:
        """Return the rows of stored fields that a part of the batch after `step` updates takes."""
        rows, epoch = self.indices(step)[part], step // self.steps_per_epoch
        return RowRequest(rows, self._words(self.seed, epoch, rows) if self.augmentation else {})

    def evaluation_request(self, split: Split, rows: np.ndarray) -> RowRequest:
        """Return the rows of stored fields of a split; of an image with views all are augmented."""
        return RowRequest(rows, self._words(0, EVALUATION, rows) if self._has_views(split) else {})

    def _words(self, seed: int, epoch: int | str, rows: np.ndarray) -> dict[str, np.ndarray]:
        views, train = self.data.task.views, self.data.train
        images = [name for name, field in train.stored.items() if isinstance(field, StoredImages)]
        return {n: sample_words(seed, epoch, rows, *[n] * (n in views)) for n in images}

    def _has_views(self, split: Split) -> bool:
        return any(name in split.fields for name in self.data.task.views)

    def take_stored(self, step: int) -> dict[str, np.ndarray]:
        """Return the stored fields of the batch after `step` updates, in this thread."""
        rows, words = self.row_request(step)
        fields = self.data.train.stored.items()
        return {name: field.take(rows, words.get(name)) for name, field in fields}

    def evaluation_draws(self, split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Noise of the task for rows of a split, the same for every seed, order and size of the batches.

        Images with views are augmented; others are evaluated as they are.
        """
        task, shapes = self.data.task, split.shapes(BLOCK)
        blocks, inside = np.divmod(rows, BLOCK)

        def drawn(name: str) -> np.ndarray:
            wanted = {
                block: task.draw(name, generator(0, name, EVALUATION, block), shapes)
                for block in dict.fromkeys(blocks.tolist())
            }
            pairs = zip(blocks.tolist(), inside.tolist(), strict=True)
            return np.stack([wanted[block][row] for block, row in pairs])

        placements = self._placements(0, EVALUATION, rows) if self._has_views(split) else {}
        return placements | {name: drawn(name) for name in task.noise}

    def terms(self, step: int) -> int:
        """Return the number of terms of the mean loss of the batch after `step` updates."""
        task, train = self.data.task, self.data.train
        if not task.counts_by_content:
            return task.terms(train.shapes(self.batch_size))
        rows, words = self.row_request(step)
        batch = {
            name: train.stored[name].take(rows, words.get(name))
            if name in train.stored
            else train.fields[name][rows]
            for name in task.targets
        }
        return task.count_terms(batch | self.draws(step))


def make_batch_plan(config: Config, data: Data) -> BatchPlan:
    """Make the batch plan of an experiment, which can augment only images."""
    augmentation = None
    if config.dataset.augment:
        if not any(form_of(array) is Form.images for array in data.train.fields.values()):
            allowed = f"false for {data.name}, whose samples are not images"
            raise UserError("dataset.augment", True, allowed)
        for name in data.task.targets:
            field = data.train.fields[name]
            is_cropped = isinstance(field, StoredImages)
            if field.ndim > 2 and data.form is Form.images and not is_cropped:
                allowed = f"false for task={data.task.name}: {name} is not cropped with the image"
                raise UserError("dataset.augment", True, allowed)
        augmentation = Augmentation(config.dataset.crop_padding, config.dataset.flip)
        _check_views(config, data)
    elif data.task.views:
        problem = f"the views of an image that task={data.task.name} compares would be the same"
        raise UserError("dataset.augment", False, problem=problem, hint="Set dataset.augment=true.")
    return BatchPlan(data, config.seed, config.train.batch_size, augmentation)


def _check_views(config: Config, data: Data) -> None:
    """Refuse views of images that the device crops and mirrors, if it does neither."""
    dataset, views = config.dataset, data.task.views
    is_cropped = any(not isinstance(data.train.fields[name], StoredImages) for name in views)
    if is_cropped and not dataset.crop_padding and not dataset.flip:
        problem = f"the views of an image that task={data.task.name} compares would be the same"
        hint = "Set dataset.crop_padding=1, or dataset.flip=true."
        raise UserError("dataset.crop_padding", 0, problem=problem, hint=hint)


def augmentation_draws(
    seed: int, epoch: int | str, samples: np.ndarray, augmentation: Augmentation, *view: str
) -> np.ndarray:
    """Offsets in [0, 2·padding] and a flip bit of samples in an epoch: int64 `[samples, 3]`.

    They are row offset, column offset and flip (0 or 1). `view` names the field, where an image has several.
    """
    keys = random_keys(3, seed, AUGMENT, epoch, *view)
    offsets = 2 * augmentation.padding + 1
    bounds = np.array([offsets, offsets, 1 + augmentation.flip], np.uint64)
    words = random_words(keys, samples[:, None].astype(np.uint64))
    return bounded(words, bounds).astype(np.int64)
