"""NumPy's notation of blocks of arrays and of transforms between them: applied and written.

A block is an array, `fc.weight`, or a part of one: `fc.weight[0:64]`, `qkv.weight.reshape(4, 3, 16)[:, 0]`.
A transform is a chain of steps: `reshape(4, 16, 64).transpose(2, 0, 1)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]
AnyArray = Any  # of NumPy or JAX


class NotationError(ValueError):
    """Text that is no block or no transform; the message is a clause."""


@dataclass(frozen=True)
class Reshape:
    """Another shape, the elements in the same order."""

    shape: Shape

    def apply(self, array: AnyArray) -> AnyArray:
        """Return the array in this shape."""
        return array.reshape(self.shape)

    def inverse(self, before: Shape) -> "Step":
        """Return the step back to an array of the shape `before`."""
        return Reshape(before)

    def __str__(self) -> str:
        return f"reshape({_joined(self.shape)})"


@dataclass(frozen=True)
class Transpose:
    """Another order of the axes."""

    axes: Shape

    def apply(self, array: AnyArray) -> AnyArray:
        """Return the array with these of its axes in order."""
        return array.transpose(self.axes)

    def inverse(self, before: Shape) -> "Step":
        """Return the step back."""
        del before
        return Transpose(tuple(map(int, np.argsort(self.axes))))

    def __str__(self) -> str:
        return f"transpose({_joined(self.axes)})"


@dataclass(frozen=True)
class Flip:
    """The reverse order along some axes."""

    axes: Shape

    def apply(self, array: AnyArray) -> AnyArray:
        """Return the array, reversed along the axes."""
        for axis in self.axes:
            if not 0 <= axis < array.ndim:
                raise ValueError(f"axis {axis} is out of bounds for {array.ndim} dimensions")
        return array[
            tuple(slice(None, None, -1 if axis in self.axes else 1) for axis in range(array.ndim))
        ]

    def inverse(self, before: Shape) -> "Step":
        """Return the step back."""
        del before
        return self

    def __str__(self) -> str:
        return f"flip({_joined(self.axes)})"


@dataclass(frozen=True)
class Take:
    """An explicit order along an axis."""

    order: Shape
    axis: int

    def apply(self, array: AnyArray) -> AnyArray:
        """Return these entries along the axis."""
        return array.take(np.array(self.order, int), axis=self.axis)

    def inverse(self, before: Shape) -> "Step":
        """Return the step back; a NotationError if entries are left out."""
        if sorted(self.order) != list(range(before[self.axis])):
            raise NotationError(f"{self} leaves out or repeats entries, so it has no reverse")
        return Take(tuple(map(int, np.argsort(self.order))), self.axis)

    def __str__(self) -> str:
        return f"take([{_joined(self.order)}], axis={self.axis})"


@dataclass(frozen=True)
class Repeat:
    """The same entry several times along an axis."""

    count: int
    axis: int

    def apply(self, array: AnyArray) -> AnyArray:
        """Return each entry along the axis `count` times."""
        return array.repeat(self.count, axis=self.axis)

    def inverse(self, before: Shape) -> "Step":
        """Raise a NotationError: several elements of one side have one value on the other."""
        raise NotationError(f"{self} repeats entries, so it has no reverse")

    def __str__(self) -> str:
        return f"repeat({self.count}, axis={self.axis})"


Step = Reshape | Transpose | Flip | Take | Repeat
Item = int | slice | Shape  # of an index; the last is a list of entries


@dataclass(frozen=True)
class Transform:
    """Steps from a block of one side to one of the other; none: the two are the same."""

    steps: tuple[Step, ...] = ()

    def apply(self, array: AnyArray) -> AnyArray:
        """Return the transformed array; a ValueError if a step does not fit its shape."""
        for step in self.steps:
            array = step.apply(array)
        return array

    def inverse(self, before: Shape) -> "Transform":
        """Return the transform back to an array of the shape `before`."""
        steps = []
        for at, step in enumerate(self.steps):
            steps.append(step.inverse(Transform(self.steps[:at]).shape_after(before)))
        return Transform(tuple(reversed(steps)))

    def shape_after(self, before: Shape) -> Shape:
        """Return the shape of a transformed array; a ValueError if a step does not fit."""
        return self.apply(np.broadcast_to(np.zeros((), np.int8), before)).shape

    def __str__(self) -> str:
        return ".".join(map(str, self.steps))


@dataclass(frozen=True)
class Block:
    """An array, or a part of it: an index, after a reshape if there is one."""

    name: str
    shape: Shape | None = None  # of the reshape
    index: tuple[Item, ...] | None = None

    @property
    def is_whole(self) -> bool:
        """True for a whole array in its own shape."""
        return self.shape is None and self.index is None

    def read(self, array: np.ndarray) -> np.ndarray:
        """Return the block of an array; a ValueError or IndexError if it does not fit its shape."""
        array = array if self.shape is None else array.reshape(self.shape)
        return array if self.index is None else array[self._numpy_index(array.shape)]

    def write(self, array: np.ndarray, values: np.ndarray) -> None:
        """Set the block of a contiguous array."""
        view = array if self.shape is None else array.reshape(self.shape)
        view[... if self.index is None else self._numpy_index(view.shape)] = values

    def _numpy_index(self, shape: Shape) -> tuple[int | slice | np.ndarray, ...]:
        if len(self.index or ()) > len(shape):
            raise IndexError(f"it has {len(self.index or ())} indices for {len(shape)} axes")
        for axis, item in enumerate(self.index or ()):
            # A slice past the end is an error here; NumPy would shorten it.
            if isinstance(item, slice) and item.stop is not None and item.stop > shape[axis]:
                raise IndexError(f"the slice ends at {item.stop}, its axis at {shape[axis]}")
        return tuple(
            np.array(item, int) if isinstance(item, tuple) else item for item in self.index or ()
        )

    def __str__(self) -> str:
        text = self.name if self.shape is None else f"{self.name}.reshape({_joined(self.shape)})"
        if self.index is not None:
            text += f"[{', '.join(map(_item_text, self.index))}]"
        return text


def _item_text(item: Item) -> str:
    if isinstance(item, slice):
        ends = ("" if end is None else str(end) for end in (item.start, item.stop))
        return ":".join(ends)
    return f"[{_joined(item)}]" if isinstance(item, tuple) else str(item)


def _joined(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
