"""The data plan: which samples, in which order, cropped and mirrored how. The same on both backends.

All of it is a pure function of (seed, epoch, step), so a step number is the whole data position.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.config import Config
from pipeline.datasets import Data, Form, Task
from pipeline.draws import generator
from pipeline.errors import UserError
from pipeline.portable import digest

DIGESTED_STEPS = 4  # batches that the data digest covers


@dataclass(frozen=True)
class Augmentation:
    """Random crop after zero padding, then a mirror image for half of the samples.

    Args:
        padding: pixels of zeros on each side.
        flip: whether to mirror.
    """

    padding: int
    flip: bool


@dataclass(frozen=True)
class DataPlan:
    """The arrays of an experiment and the batches drawn from them.

    Args:
        data: the data set.
        seed: keys the order and the augmentation.
        batch_size: samples of a step, over all devices and accumulation.
        augmentation: of training images; None for none.
    """

    data: Data
    seed: int
    batch_size: int
    augmentation: Augmentation | None

    @property
    def center(self) -> np.ndarray:
        """Mean of the training targets of a regression `[outputs]`; else one zero."""
        if self.data.task is not Task.regression:
            return np.zeros(1)
        return np.asarray(self.data.train.targets, dtype=np.float64).mean(axis=0)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training set."""
        return len(self.data.train) // self.batch_size

    @property
    def padding(self) -> int:
        """Pixels of zeros around a training image before the crop."""
        return self.augmentation.padding if self.augmentation else 0

    def digest(self, batch: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> str:
        """SHA-256 of the first batches, as a backend really feeds them.

        Args:
            batch: from the updates done so far to the batch's pixels (augmented and not yet
                normalised), numbers or tokens, and its targets.
        """
        steps = range(min(DIGESTED_STEPS, self.steps_per_epoch))
        batches = {step: batch(step) for step in steps}
        inputs = {f"inputs/{step}": inputs for step, (inputs, _) in batches.items()}
        targets = {f"targets/{step}": targets for step, (_, targets) in batches.items()}
        return digest(inputs | {name: array.astype(np.float64) for name, array in targets.items()})

    def indices(self, step: int) -> np.ndarray:
        """Samples of the batch after `step` updates: int64 `[batch_size]`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = permutation(self.seed, epoch, len(self.data.train))
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def draws(self, step: int) -> np.ndarray | None:
        """Row offset, column offset and mirror (0 or 1) of each sample: int64 `[batch_size, 3]`."""
        if self.augmentation is None:
            return None
        epoch = step // self.steps_per_epoch
        epoch_draws = augmentation_draws(
            self.seed,
            epoch,
            len(self.data.train),
            self.augmentation.padding,
            self.augmentation.flip,
        )
        return epoch_draws[self.indices(step)]


def data_plan(config: Config, data: Data) -> DataPlan:
    """The data plan of an experiment.

    Raises:
        UserError: augmentation was asked for data that are not images.
    """
    augmentation = None
    if config.dataset.augment:
        if data.train.form is not Form.images:
            raise UserError(
                "dataset.augment", True, f"false for {data.name}, whose samples are not images"
            )
        augmentation = Augmentation(config.dataset.crop_padding, config.dataset.flip)
    return DataPlan(data, config.seed, config.train.batch_size, augmentation)


# Two epochs are kept: the last batch of one and the first of the next may be asked for in turn.
@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of the training samples in an epoch: int64 `[size]`."""
    return generator(seed, "order", epoch).permutation(size)


@lru_cache(maxsize=2)
def augmentation_draws(seed: int, epoch: int, size: int, padding: int, flip: bool) -> np.ndarray:
    """Offsets in [0, 2·padding] and a mirror bit for every training sample: int64 `[size, 3]`."""
    random = generator(seed, "augment", epoch)
    offsets = random.integers(0, 2 * padding, size=(size, 2), endpoint=True)
    mirrored = random.integers(0, 1, size=(size, 1), endpoint=True) * int(flip)
    return np.concatenate([offsets, mirrored], axis=1)
