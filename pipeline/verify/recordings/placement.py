"""Places of the elements of one array among others, found from their values."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np


class Values:
    """Elements by value, of which only those that occur once can be looked up."""

    def __init__(self, flat: np.ndarray, numbers: np.ndarray) -> None:
        """Take values `[n]`, and the number of each `[n]`."""
        order = np.argsort(flat, kind="stable")
        self.sorted, self.numbers = flat[order], numbers[order]
        differs = np.diff(self.sorted) != 0
        edge = np.ones(min(1, len(flat)), bool)
        self.is_single = np.concatenate([edge, differs]) & np.concatenate([differs, edge])

    def find(self, values: np.ndarray) -> np.ndarray:
        """Return the number of the one element with each value, in their shape; -1: none or several."""
        if not len(self.sorted):
            return np.full(values.shape, -1)
        flat = values.ravel()
        order = np.argsort(flat)  # several times faster to look up in order
        at = np.minimum(np.searchsorted(self.sorted, flat[order]), len(self.sorted) - 1)
        is_found = (self.sorted[at] == flat[order]) & self.is_single[at]
        numbers = np.empty(flat.shape, np.int64)
        numbers[order] = np.where(is_found, self.numbers[at], -1)
        return numbers.reshape(values.shape)


def place(part: np.ndarray, values: Values, flat: np.ndarray) -> np.ndarray | None:
    """Return the number of each element of an array among others, in its shape, or None.

    `flat` are the values of all others by number. A value that occurs several times is placed by the others
    in its row, column and so on: along each axis, elements stand at the same distances from each other.
    """
    numbers = values.find(part)
    if (numbers < 0).any():
        numbers = _completed(numbers)
    if numbers is None or numbers.min() < 0 or numbers.max() >= len(flat):
        return None
    return numbers if np.array_equal(flat[numbers], part) else None


def _completed(numbers: np.ndarray) -> np.ndarray | None:
    """Fill in unknown numbers `base + Σ distances along each axis`; None if too few are known."""
    known = numbers >= 0
    if not known.any():
        return None
    first = np.unravel_index(np.argmax(known), numbers.shape)
    total = np.array(numbers[first])
    for axis in range(numbers.ndim):
        lines = np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)
        is_known = lines >= 0
        row = int(np.argmax(is_known.sum(1)))
        both = is_known & is_known[row]
        if not both.any(1).all():
            return None
        column = np.argmax(both, 1)
        distance = lines[np.arange(len(lines)), column] - lines[row, column]
        distance = distance - distance[first[axis]]
        total = total + distance.reshape([-1 if at == axis else 1 for at in range(numbers.ndim)])
    return np.broadcast_to(total, numbers.shape)


def orders(left: tuple[int, ...], right: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the orders of the left axes that give the right shape, axes of length one left out.

    The order that keeps the axes comes first, the one that reverses them second.
    """
    ours = tuple(size for size in left if size != 1)
    theirs = tuple(size for size in right if size != 1)
    if len(ours) != len(theirs):
        return
    every = permutations(range(len(ours)))
    same, reverse = tuple(range(len(ours))), tuple(range(len(ours)))[::-1]
    for order in sorted(every, key=lambda order: (order != same, order != reverse)):
        if tuple(ours[axis] for axis in order) == theirs:
            yield order


def ordered(array: np.ndarray, order: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return an array with its axes in another order, and in this shape."""
    return np.squeeze(array).transpose(order).reshape(shape)
