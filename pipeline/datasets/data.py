"""What a data set is, once loaded: plain arrays and a few facts about them."""

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Task(Enum):
    classification = "classification"
    regression = "regression"
    language = "language"  # the next token at every place of a sequence


class Form(Enum):
    """What a sample is; it decides which models fit."""

    images = "images"
    vectors = "vectors"
    tokens = "token sequences"


@dataclass(frozen=True, eq=False)
class Split:
    """Samples and their targets, in a fixed order.

    Attributes:
        inputs: uint8 [n, height, width, channels], possibly memory-mapped read-only; or
            float64 [n, features]; or tokens, uint8 [n, length], possibly memory-mapped.
        targets: int64 [n], classes counted from 0; or float64 [n, outputs]; or the tokens that
            follow the inputs', uint8 [n, length].
    """

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def form(self) -> Form:
        """What the samples are, told by the inputs' shape and type."""
        if self.inputs.ndim == 4:
            return Form.images
        whole = np.issubdtype(self.inputs.dtype, np.integer)
        return Form.tokens if whole and self.inputs.ndim == 2 else Form.vectors

    def __getitem__(self, part: slice) -> "Split":
        """A contiguous part of the samples; a view, so memory-mapped arrays stay on disk."""
        return Split(self.inputs[part], self.targets[part])


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as every backend receives it.

    Attributes:
        outputs: number of classes, width of the target, or number of different tokens.
        mean: float64 [channels], of the inputs of the whole training set (before any of it is
            held out or left out), in the inputs' raw units (0..255; 0..16 for digits). For
            vectors: float64 [features], zeros. For tokens, which nothing normalises: [1], zero.
        std: as `mean`, the population's standard deviation; 1 where a channel is constant. For
            vectors and tokens: ones.
        classes: what people call the classes, where the set knows it.
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
        """What a mean loss and an accuracy count in a sample: its tokens, or it as a whole."""
        return self.train.targets.shape[1] if self.task is Task.language else 1
