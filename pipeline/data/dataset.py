"""A loaded data set: plain arrays and their metadata."""

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Task(Enum):
    classification = "classification"
    regression = "regression"
    language = "language"  # the next token at every position of a sequence


class Form(Enum):
    """Kind of sample; it decides which models fit."""

    images = "images"
    vectors = "vectors"
    tokens = "token sequences"


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their targets, in a fixed order.

    Inputs and targets of each kind (uint8 arrays may be memory-mapped read-only):

    - images: uint8 [n, height, width, channels], and classes from 0, int64 [n]
    - vectors: float64 [n, features], and float64 [n, outputs]
    - tokens: uint8 [n, length], and the next tokens, uint8 [n, length]
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def form(self) -> Form:
        """Kind of the samples, from the shape and type of the inputs."""
        if self.inputs.ndim == 4:
            return Form.images
        is_integer = np.issubdtype(self.inputs.dtype, np.integer)
        return Form.tokens if is_integer and self.inputs.ndim == 2 else Form.vectors

    def __getitem__(self, part: slice) -> "Split":
        """A contiguous part of the samples, as a view: memory-mapped arrays stay on disk."""
        return Split(self.inputs[part], self.targets[part])


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as every backend receives it.

    Attributes:
        outputs: number of classes, width of the target, or size of the vocabulary.
        mean: float64 [channels], of the inputs of the whole training set (before any split or
            limit), in raw units (0..255; 0..16 for digits). Zeros [features] for vectors and [1]
            for tokens, which are not normalised.
        std: as `mean`, the population standard deviation; 1 where a channel is constant, and for
            vectors and tokens.
        classes: names of the classes, if known.
    """

    name: str
    task: Task
    train: Split
    val: Split
    test: Split
    outputs: int
    mean: np.ndarray
    std: np.ndarray
    classes: tuple[str, ...] | None = None

    @property
    def values_per_sample(self) -> int:
        """Terms that a sample adds to a mean loss or an accuracy: its tokens, or one."""
        return self.train.targets.shape[1] if self.task is Task.language else 1
