"""Transforms from one block to another, found from the order of the elements.

An order is a reshape, a permutation of axes and a reshape, if it is evenly spaced along the axes of both
sides: `base + Σ stride · index`.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from math import prod

import numpy as np

from pipeline.verify.names.grids import Grid, find_grid, first_step, refined
from pipeline.verify.names.notation import (
    Flip,
    Repeat,
    Reshape,
    Shape,
    Step,
    Take,
    Transform,
    Transpose,
)


def find_transform(order: np.ndarray, left: Shape, right: Shape) -> Transform | None:
    """Return the simplest transform from a block to another, or None.

    `order` are the places in the flattened left block of the right block's elements in their order.
    """
    grid = find_grid(np.arange(len(order)), order)
    found = [] if grid is None else list(_chains(grid, left, right))
    if grid is None:
        found = list(_taken(order, left, right))
    return min(map(Transform, found), key=_cost, default=None)


def _cost(transform: Transform) -> tuple[int, int]:
    return len(transform.steps), len(str(transform))


def _chains(grid: Grid, left: Shape, right: Shape) -> Iterator[tuple[Step, ...]]:
    """Yield the chains of reshapes, flips and permutations that give a grid."""
    by_left = refined(grid, left, is_left=True)
    by_right = refined(grid, right, is_left=False)
    for axes in (refined(by_left, right, is_left=False), by_left, by_right, grid):
        order = sorted(
            (at for at in range(len(axes)) if axes[at].left), key=lambda at: -abs(axes[at].left)
        )
        if any(abs(axes[at].left) < _reach(axes, order[n + 1 :]) for n, at in enumerate(order)):
            continue  # elements that are used twice, but not by whole axes
        for units in _unit_choices(axes, order, left, right):
            yield from _chain(axes, units, left, right)


def _reach(axes: Grid, inner: Sequence[int]) -> int:
    """Number of elements that the inner axes span on the left side."""
    return 1 + sum(abs(axes[at].left) * (axes[at].size - 1) for at in inner)


Units = list[tuple[int, ...]]  # axes that move together, in their order on the left side


def _unit_choices(axes: Grid, order: list[int], left: Shape, right: Shape) -> Iterator[Units]:
    sizes = [axis.size for axis in axes]
    merged: Units = []
    for at in order:
        is_next = merged and at == merged[-1][-1] + 1
        if is_next and (axes[at].left > 0) == (axes[at - 1].left > 0):
            merged[-1] = (*merged[-1], at)
        else:
            merged.append((at,))
    yield merged
    yield [(at,) for at in order]
    if (own := _grouped(order, sizes, left)) is not None:
        yield own
    theirs = _grouped(range(len(axes)), sizes, right)
    if theirs is not None and all(unit in _windows(order, len(unit)) for unit in theirs):
        yield sorted(theirs, key=lambda unit: order.index(unit[0]))


def _windows(order: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(order[at : at + size]) for at in range(len(order) - size + 1)]


def _grouped(order: Sequence[int], sizes: Sequence[int], shape: Shape) -> Units | None:
    """Group the axes by the axes of a shape; None if they do not fit."""
    units, pending = [], list(order)
    for size in shape:
        unit: list[int] = []
        while prod(sizes[at] for at in unit) < size and pending:
            unit.append(pending.pop(0))
        if prod(sizes[at] for at in unit) != size:
            return None
        units += [tuple(unit)] if unit else []
    return None if pending else units


def _chain(axes: Grid, units: Units, left: Shape, right: Shape) -> Iterator[tuple[Step, ...]]:
    """Yield the steps that move these units."""
    for unit in units:
        is_contiguous = all(after == before + 1 for before, after in pairwise(unit))
        if not is_contiguous or len({axes[at].left > 0 for at in unit}) > 1:
            return
    sizes = tuple(prod(axes[at].size for at in unit) for unit in units)
    flips = tuple(n for n, unit in enumerate(units) if axes[unit[0]].left < 0)
    order = sorted(range(len(units)), key=lambda n: units[n][0])
    repeated = [at for at, axis in enumerate(axes) if not axis.left]
    yield _steps(left, sizes, flips, order, _repeats(axes, units, order, repeated), right)
    bare = _without_ones(left), _without_ones(right)
    if not repeated and bare == (sizes, tuple(sizes[n] for n in order)):
        # The shapes' own axes in another order; axes of length 1 go along if there are as many.
        ones = [[at for at, size in enumerate(shape) if size == 1] for shape in (left, right)]
        if len(ones[0]) == len(ones[1]):
            own = [at for at, size in enumerate(left) if size != 1]
            moved, alone = iter([own[n] for n in order]), iter(ones[0])
            permutation = [next(alone if size == 1 else moved) for size in right]
            yield _steps(left, left, tuple(own[n] for n in flips), permutation, [], right)


def _steps(
    left: Shape,
    sizes: Shape,
    flips: Shape,
    order: Sequence[int],
    repeats: Sequence[Step],
    right: Shape,
) -> tuple[Step, ...]:
    steps: list[Step] = [] if sizes == left else [Reshape(sizes)]
    steps += [Flip(flips)] if flips else []
    if list(order) != sorted(order):
        steps.append(Transpose(tuple(order)))
    steps += repeats
    shape = Transform(tuple(steps)).shape_after(left)
    if shape != right:
        steps.append(Reshape(right))
    # Of two reshapes in a row the second is enough.
    return tuple(
        step
        for step, after in zip_longest(steps, steps[1:])
        if not (isinstance(step, Reshape) and isinstance(after, Reshape))
    )


def _repeats(axes: Grid, units: Units, order: Sequence[int], repeated: list[int]) -> list[Step]:
    """Return the steps that add the axes along which every left element is repeated."""
    if not repeated:
        return []
    places = {units[n][0]: prod(axes[at].size for at in units[n]) for n in order}
    places |= dict.fromkeys(repeated, 1)
    axes_of = sorted(places)
    shape = Reshape(tuple(places[at] for at in axes_of))
    return [shape, *(Repeat(axes[at].size, axes_of.index(at)) for at in repeated)]


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _taken(order: np.ndarray, left: Shape, right: Shape) -> Iterator[tuple[Step, ...]]:
    """Yield the chains that end with an explicit order along some axes of the right block."""
    for merged in _merged_shapes(_without_ones(right)):
        along = _along(order.reshape(merged))
        if along is None:
            continue
        # Where stretches of an axis stay together, only their order is explicit.
        parts = [_stretches(values) for values in along]
        shape = tuple(size for pair in parts for size in pair)
        numbers, takes = order.reshape(shape), []
        for axis, values in enumerate(_along(numbers) or ()):
            if find_grid(np.arange(len(values)), values) is None:
                if len(np.unique(values)) < len(values):
                    break
                sorting = np.argsort(values)
                numbers = numbers.take(sorting, axis=axis)
                takes.append(Take(tuple(map(int, np.argsort(sorting))), axis))
        else:
            grid = find_grid(np.arange(numbers.size), numbers.ravel())
            if grid is None:
                continue
            last = () if shape == right else (Reshape(right),)
            for chain in _chains(grid, left, shape):
                yield (*chain, *takes, *last)
            return


def _along(numbers: np.ndarray) -> list[np.ndarray] | None:
    """Return the numbers along each axis, from its first; None if elsewhere they are not their sums."""
    corner = (0,) * numbers.ndim
    base = numbers[corner]
    along = [np.moveaxis(numbers, axis, 0)[:, *corner[1:]] - base for axis in range(numbers.ndim)]
    total = base
    for axis, values in enumerate(along):
        total = total + values.reshape([-1 if at == axis else 1 for at in range(numbers.ndim)])
    return along if np.array_equal(total, numbers) else None


def _stretches(values: np.ndarray) -> Shape:
    """Split an axis whose order is not regular into stretches that are."""
    if len(values) < 2 or find_grid(np.arange(len(values)), values) is not None:
        return (len(values),)
    size = first_step(values, values).size
    return (len(values) // size, size) if size > 1 else (len(values),)


def _merged_shapes(shape: Shape) -> Iterator[Shape]:
    """Yield a shape, and those in which neighbouring axes are one, few together first."""
    yield shape
    for count in range(2, len(shape) + 1):
        for at in range(len(shape) - count + 1):
            yield (*shape[:at], prod(shape[at : at + count]), *shape[at + count :])
