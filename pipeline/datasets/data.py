"""What a data set is, once loaded: plain arrays and a few facts about them."""

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Task(Enum):
    classification = "classification"
    regression = "regression"


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their targets, in a fixed order.

    Attributes:
        inputs: uint8 [n, height, width, channels], possibly memory-mapped read-only; or
            float64 [n, features].
        targets: int64 [n], classes counted from 0; or float64 [n, outputs].
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, part: slice) -> "Split":
        """A contiguous part of the samples; a view, so memory-mapped arrays stay on disk."""
        return Split(self.inputs[part], self.targets[part])


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as every backend receives it.

    Attributes:
        outputs: number of classes, or width of the target.
        mean: float64 [channels], of the inputs of the whole training set (before any of it is
            held out or left out), in the inputs' raw units (0..255; 0..16 for digits). For
            vectors: float64 [features], zeros.
        std: as `mean`, the population's standard deviation; 1 where a channel is constant. For
            vectors: ones.
    """

    name: str
    task: Task
    train: Split
    val: Split
    test: Split
    outputs: int
    mean: np.ndarray
    std: np.ndarray
