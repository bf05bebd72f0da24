"""The interface of a task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod

Shapes = Mapping[str, tuple[int, ...]]  # of the fields of a batch, its axis included


class Task(ABC):
    """A task: which fields of a batch it takes, and its metrics as functions of sums over samples.

    A backend computes the sums, so that a metric is right over batches of any size, devices and
    micro-batches.
    """

    name: str
    targets: tuple[str, ...]  # fields for the loss; the model takes the others
    sums: tuple[str, ...]  # quantities summed over the terms of a batch, the loss first
    monitor: str  # metric of the validation set that decides which checkpoint is best
    maximized: frozenset[str] = frozenset()  # metrics of which more is better

    @property
    def mode(self) -> str:
        """`max` if more is better of the monitored metric, else `min`."""
        return "max" if self.monitor in self.maximized else "min"

    def terms(self, shapes: Shapes) -> int:
        """Return the number of terms of a batch's mean loss: its samples, unless a task says otherwise."""
        return shapes[self.targets[0]][0]

    @abstractmethod
    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the metrics of samples from their sums; `shapes` are those of all samples together."""

    @abstractmethod
    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the outputs that the loss needs; a word stands for any size."""

    def values(self, shapes: Shapes) -> int:
        """Return the numbers in a batch's first target."""
        return prod(shapes[self.targets[0]])
