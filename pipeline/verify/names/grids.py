"""Grids: sequences of elements that are evenly spaced along some axes, found from the numbers alone."""

from dataclasses import dataclass
from math import prod

import numpy as np

from pipeline.verify.names.notation import Shape


@dataclass(frozen=True)
class Axis:
    """One axis of a grid: its length, and the steps along it on both sides."""

    size: int
    right: int
    left: int

    def split(self, inner: int) -> tuple["Axis", "Axis"]:
        """Return two axes for this one, the second of length `inner`."""
        outer = Axis(self.size // inner, self.right * inner, self.left * inner)
        return outer, Axis(inner, self.right, self.left)


Grid = list[Axis]  # outermost first on the right side


def find_grid(right: np.ndarray, left: np.ndarray) -> Grid | None:
    """Return the axes along which two sequences are evenly spaced, as few as possible, or None."""
    guess = _guess_grid(right, left)
    return guess if guess is not None else _search_grid(right, left)


def _guess_grid(right: np.ndarray, left: np.ndarray) -> Grid | None:
    """Guess the axes from the first entries along each, and check the guess: one pass, no search."""
    axes: Grid = []
    pair = right, left
    while (count := len(pair[0])) > 1:
        steps = [int(values[1] - values[0]) for values in pair]
        size = min(_even_length(v, step) for v, step in zip(pair, steps, strict=True))
        if size == 1 or count % size:
            return None
        axes.append(Axis(size, *steps))
        pair = pair[0][::size], pair[1][::size]
    for values, steps in ((right, [a.right for a in axes]), (left, [a.left for a in axes])):
        expected = values[:1]
        for axis, step in zip(axes[::-1], steps[::-1], strict=True):
            expected = (expected[:, None] + step * np.arange(axis.size)).ravel()
        if not np.array_equal(expected, values):
            return None
    return axes[::-1]


def _even_length(values: np.ndarray, step: int) -> int:
    """Return how many values from the first are evenly spaced."""
    window = 64
    while True:
        breaks = np.flatnonzero(np.diff(values[:window]) != step)
        if len(breaks):
            return int(breaks[0]) + 1
        if window >= len(values):
            return len(values)
        window *= 8


def _search_grid(right: np.ndarray, left: np.ndarray) -> Grid | None:
    axes: Grid = []
    while len(right) > 1:
        step = first_step(right, left)
        if step.size == 1:
            return None
        axes.append(step)
        right, left = right[:: step.size], left[:: step.size]
    return axes[::-1]


def first_step(right: np.ndarray, left: np.ndarray) -> Axis:
    """Return the innermost axis along which two sequences are evenly spaced, of length 1 if none is."""
    steps = int(right[1] - right[0]), int(left[1] - left[0])
    is_break = (np.diff(right) != steps[0]) | (np.diff(left) != steps[1])
    return Axis(int(np.gcd.reduce(np.flatnonzero(is_break) + 1, initial=len(right))), *steps)


def refined(grid: Grid, shape: Shape, is_left: bool) -> Grid:
    """Split the axes of a grid where an axis of one side's array begins."""
    borders = {prod(shape[at:]) for at in range(1, len(shape))}
    result: Grid = []
    for axis in grid:
        for border in sorted(borders, reverse=True):
            stride = abs(axis.left if is_left else axis.right)
            inner = border // stride if stride and border % stride == 0 else 0
            if 1 < inner < axis.size and axis.size % inner == 0:
                outer, axis = axis.split(inner)
                result.append(outer)
        result.append(axis)
    return result
