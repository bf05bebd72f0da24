"""A loaded data set: named arrays and their metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np

from pipeline.data.sample_order import SampleOrder
from pipeline.data.stored_images import StoredImages
from pipeline.data.stored_rows import StoredRows
from pipeline.errors import UserError
from pipeline.rng import generator
from pipeline.tasks import TARGETS, Shapes, Task

# Of samples: some that follow one another, int64 [n], or a part of a permutation.
Rows = range | np.ndarray | SampleOrder
Stored = StoredImages | StoredRows
Field = np.ndarray | Stored

LARGE = 2**30  # bytes of a part of a file above which it is not copied into memory
ROW = 64  # bytes that a row counts at least, for its place


class Form(Enum):
    """Kind of sample; it decides which models fit."""

    images = "images"
    vectors = "vectors"
    tokens = "token sequences"


@dataclass(frozen=True, eq=False)
class Split:
    """Samples as named arrays of one length, in a fixed order.

    Fields of the data sets here (uint8 arrays may be memory-mapped read-only):

    - `image`: uint8 [n, height, width, channels], with `label`: classes from 0, int64 [n]
    - `features`: float64 [n, features], with `target`: float64 [n, outputs]
    - `tokens`: uint8 [n, length], with `next`: the token after each, uint8 [n, length]

    Images that are too large for an array are `StoredImages` of the same shape, other parts of large files
    that are no slices `StoredRows`.
    """

    fields: Mapping[str, Field]

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def __getitem__(self, part: slice) -> "Split":
        """A contiguous part of the samples, as a view: memory-mapped arrays stay on disk."""
        return Split({name: array[part] for name, array in self.fields.items()})

    def select(self, rows: Rows) -> "Split":
        """Some of the samples, in this order: a view, if they follow one another."""
        if isinstance(rows, range):
            return self[rows.start : rows.stop]
        return Split({name: rows_of(field, rows) for name, field in self.fields.items()})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that are arrays."""
        return {name: field for name, field in self.fields.items() if isinstance(field, np.ndarray)}

    @property
    def stored(self) -> dict[str, Stored]:
        """The fields that are read batch by batch."""
        return {name: field for name, field in self.fields.items() if isinstance(field, Stored)}

    @property
    def nbytes(self) -> int:
        """Size of all arrays; one that several fields share counts once."""
        return self.bytes_beside()

    def bytes_beside(self, *others: "Split") -> int:
        """Size of all arrays of this split and others; one that they share counts once."""
        splits = (self, *others)
        return sum({id(a): a.nbytes for split in splits for a in split.arrays.values()}.values())

    def shapes(self, samples: int | None = None) -> Shapes:
        """Return the shapes of the fields for so many samples, or for all."""
        count = len(self) if samples is None else samples
        return {name: (count, *array.shape[1:]) for name, array in self.fields.items()}


class Moments(NamedTuple):
    """Mean and population standard deviation of each channel of a field: float64 [channels].

    They are those of the whole training set (before any split or limit), in raw units (0..255; 0..16 for
    digits); the deviation of a constant channel is 1.
    """

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """A data set as every backend receives it.

    Attributes:
        sizes: number of different values in fields of integers: classes of `label`, vocabulary of `tokens`.
        moments: mean and deviation of each field that is normalised, by its name.
        classes: names of the classes, if known.
    """

    name: str
    task: Task
    train: Split
    val: Split
    test: Split
    sizes: Mapping[str, int]
    moments: Mapping[str, Moments]
    classes: tuple[str, ...] | None = None

    def for_task(self, task: Task) -> "Data":
        """Return the data with the fields that a task needs; refuse data that lack one."""
        task.check(self.train.shapes())
        takes = task.takes or tuple(
            n for n in self.train.fields if n not in TARGETS | {*task.targets}
        )
        fields = [name for name in (*takes, *task.targets) if name not in task.noise]
        kept = {name: name for name in fields} | dict(task.views)
        if not takes:
            problem = f"no field is left for the model among {', '.join(self.train.fields)}"
            raise UserError("task", task.name, problem=problem, hint="Set task.inputs=[FIELD].")
        train, val, test = (
            Split({field: split.fields[source] for field, source in kept.items()})
            for split in (self.train, self.val, self.test)
        )
        val = train if self.val is self.train else val
        moments = {n: self.moments[source] for n, source in kept.items() if source in self.moments}
        return replace(self, task=task, moments=moments, train=train, val=val, test=test)

    @property
    def outputs(self) -> int:
        """Number of a model's outputs: classes, width of the target, or size of the vocabulary."""
        return self.task.outputs(self.sizes, self.train.shapes())

    @property
    def sums(self) -> list[str]:
        """Names of the task's sums of a batch."""
        return self.task.names_of_sums(self.outputs)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the fields that a model takes, in the order of its arguments."""
        others = {*self.task.targets, *self.task.views}
        return self.task.takes or tuple(n for n in self.train.fields if n not in others)

    @property
    def call_shapes(self) -> Shapes:
        """Shapes of one sample of all that a model is called with, by name; see `Task.adds`."""
        task, batch = self.task, dict(self.train.shapes(1))
        for name in task.noise:
            if name in (*task.takes, *task.adds):
                batch[name] = task.draw(name, generator(0, name), batch).shape
        return {name: batch[name][1:] for name in (*self.inputs, *task.adds)}

    @property
    def example(self) -> Field:
        """The model's first input, of the training samples."""
        return self.train.fields[self.inputs[0]]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the model's first input."""
        return self.example.shape[1:]

    @property
    def form(self) -> Form:
        """Kind of the samples, from the shape and type of the model's first input."""
        return form_of(self.example)


def rows_of(field: Field, rows: np.ndarray | SampleOrder) -> Field:
    """Return some of the samples of a field: in memory, or a view of what is large and in a file."""
    if isinstance(field, Stored):
        return field.select(np.asarray(rows))
    size = max(field[:1].nbytes, ROW) * len(rows)
    is_large = isinstance(field, np.memmap) and size > LARGE
    if is_large:
        return StoredRows(field, rows)
    # A sixth of the time of indexing, of a mapped file above all.
    return np.take(np.asarray(field), np.asarray(rows), axis=0)


def form_of(array: Field) -> Form:
    """Tell the kind of samples in a field."""
    if array.ndim == 4:
        return Form.images
    is_integer = np.issubdtype(array.dtype, np.integer)
    return Form.tokens if is_integer and array.ndim == 2 else Form.vectors
