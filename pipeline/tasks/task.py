"""The interface of a task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import ClassVar

import numpy as np

from pipeline.config.checks.suggestions import nearest
from pipeline.config.tasks import GeneratingConfig, TaskConfig
from pipeline.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]  # of the fields of a batch, its axis included


class Task(ABC):
    """A task: which fields of a batch it takes, and its metrics as functions of sums over samples.

    A backend computes the sums, so that a metric is right over batches of any size, devices and
    micro-batches.
    """

    name: ClassVar[str]
    targets: tuple[str, ...]  # fields for the loss; the model takes others
    needs: tuple[str, ...]  # fields of a sample, each with its axes, such as `mask [height, width]`
    takes: tuple[str, ...] = ()  # fields that the model takes; empty: all that are no targets
    adds: tuple[str, ...] = ()  # targets or noise that the model is called with behind those
    one_row: bool = False  # whether it needs one row of outputs for a sample, as most models give
    sums: tuple[str, ...]  # quantities summed over the terms of a batch, the loss first
    sums_by_class: tuple[str, ...] = ()  # those with a sum for each output
    noise: tuple[str, ...] = ()  # random numbers for each sample that the core draws as fields
    views: Mapping[
        str, str
    ] = {}  # fields that are images of another field, augmented a second time
    monitor: str  # metric of the validation set that decides which checkpoint is best
    has_classes: bool = False  # whether labels can be smoothed
    counts_by_content: bool = False  # whether the terms of a batch depend on its content
    whole_batch: bool = False  # whether the loss takes the outputs of a whole batch at once
    group: int = 1  # consecutive samples whose loss an evaluation computes together
    maximized: frozenset[str] = frozenset()  # metrics of which more is better
    has_predictions: bool = False  # whether something is kept of each test sample
    samples: int = 0  # that a trained model makes, to be shown
    samples_at_evaluations: bool = False

    def __init__(self, config: TaskConfig | None = None) -> None:
        self.takes = tuple(config.inputs) if config and config.inputs else self.takes
        if isinstance(config, GeneratingConfig):
            self.samples = config.samples
            self.samples_at_evaluations = config.samples_at_evaluations

    def direction(self, metric: str) -> str:
        """Return `max` if more is better of a metric such as `val/accuracy`, else `min`."""
        return "max" if metric.rpartition("/")[2] in self.maximized else "min"

    @property
    def loss_fields(self) -> tuple[str, ...]:
        """Fields of a batch that the loss takes."""
        return self.targets + self.noise

    def names(self, field: str) -> bool:
        """Tell whether a field is among those that the model or the loss takes by name."""
        return field in self.takes or field in self.targets

    def check(self, shapes: Shapes) -> None:
        """Refuse fields of samples among which one is missing, or has another number of axes."""
        given = ", ".join(f"{name} {list(shape[1:])}" for name, shape in shapes.items())
        hint = "Set task to one that fits, or task.inputs to the fields that the model takes."
        for wanted in self.needs:
            name, _, axes = wanted.partition(" ")
            count = len(axes.strip("[]").split(",")) if axes != "[]" else 0
            if name not in shapes or len(shapes[name]) != count + 1:
                problem = f"each sample needs {wanted}, and the data set has {given}"
                raise UserError("task", self.name, problem=problem, hint=hint)
        for name in self.takes:
            if name not in shapes and name not in self.noise:
                close = nearest(name, shapes)
                hint = f"Did you mean {close}?" if close else ""
                problem = f"the data set has no such field, only {given}"
                raise UserError("task.inputs", name, problem=problem, hint=hint)

    @abstractmethod
    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the number of a model's outputs: classes, width of the target, or size of the vocabulary.

        `sizes` are the numbers of different values in fields of integers.
        """

    def terms(self, shapes: Shapes) -> int:
        """Return the number of terms of a batch's mean loss: its samples, unless a task says otherwise."""
        return shapes[self.targets[0]][0]

    def count_terms(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of terms of a whole training batch's mean loss; see `counts_by_content`."""
        return self.terms({name: field.shape for name, field in batch.items()})

    def summed_parts(self, accumulate: int) -> int:
        """Return how many micro-batches have losses of their own; a loss of whole batches has one."""
        return 1 if self.whole_batch else accumulate

    def whole_groups(self, samples: int) -> int:
        """Return a number of samples, rounded up to whole groups of an evaluation."""
        return samples + -samples % self.group

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
    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...] | None:
        """Return the shape of the outputs that the loss needs; a word stands for any size, None for any."""

    def values(self, shapes: Shapes) -> int:
        """Return the numbers in a batch's first target."""
        return prod(shapes[self.targets[0]])


def by_class(sums: Mapping[str, float], name: str) -> np.ndarray:
    """Return the sums of a name by class: float64 [classes]."""
    return np.array([value for key, value in sums.items() if key.startswith(f"{name}/")])
