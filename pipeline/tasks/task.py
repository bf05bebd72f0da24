"""The interface of a task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]  # of the fields of a batch, its axis included


class Task(ABC):
    """A task: which fields of a batch it takes, and its metrics as functions of sums over samples.

    A backend computes the sums, so that a metric is right over batches of any size, devices and
    micro-batches.
    """

    name: str
    targets: tuple[str, ...]  # fields for the loss; the model takes the others
    sums: tuple[str, ...]  # quantities summed over the terms of a batch, the loss first
    sums_by_class: tuple[str, ...] = ()  # those with a sum for each output
    noise: tuple[
        str, ...
    ] = ()  # random numbers for each sample, fields of a batch that the core draws
    monitor: str  # metric of the validation set that decides which checkpoint is best
    counts_by_content: bool = (
        False  # whether the terms of a batch depend on its content, as on padding
    )
    maximized: frozenset[str] = frozenset()  # metrics of which more is better

    @property
    def mode(self) -> str:
        """`max` if more is better of the monitored metric, else `min`."""
        return "max" if self.monitor in self.maximized else "min"

    @property
    def loss_fields(self) -> tuple[str, ...]:
        """Fields of a batch that the loss takes."""
        return self.targets + self.noise

    def terms(self, shapes: Shapes) -> int:
        """Return the number of terms of a batch's mean loss: its samples, unless a task says otherwise."""
        return shapes[self.targets[0]][0]

    def count_terms(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of terms of a whole training batch's mean loss; see `counts_by_content`."""
        return self.terms({name: field.shape for name, field in batch.items()})

    def draw(self, name: str, random: np.random.Generator, shapes: Shapes) -> np.ndarray:
        """Draw a field of `noise` for a batch."""
        raise NotImplementedError(f"{self.name} has no noise {name}")

    def names_of_sums(self, outputs: int) -> list[str]:
        """Return the names of the sums of a batch; those by class are `hits/0`, `hits/1`, …"""
        return [
            f"{name}/{index}" if name in self.sums_by_class else name
            for name in self.sums
            for index in range(outputs if name in self.sums_by_class else 1)
        ]

    @abstractmethod
    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the metrics of samples from their sums; `shapes` are those of all samples together."""

    @abstractmethod
    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the outputs that the loss needs; a word stands for any size."""

    def values(self, shapes: Shapes) -> int:
        """Return the numbers in a batch's first target."""
        return prod(shapes[self.targets[0]])


def by_class(sums: Mapping[str, float], name: str) -> np.ndarray:
    """Return the sums of a name by class: float64 [classes]."""
    return np.array([value for key, value in sums.items() if key.startswith(f"{name}/")])
