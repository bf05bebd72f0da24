"""Orders of features that differ between the sides, found from values."""

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from pipeline.verify.trace.graph import Window

MOST_PARTS = 4  # of a fused projection whose orders are all tried


def column_order(left: np.ndarray, right: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Return the order in which the left columns are the right ones, or None.

    Both are `[n, columns]`; their rows may be in another order, too.
    """
    if left.shape[1] != right.shape[1]:
        return None
    ours, theirs = _moments(left), _moments(right)
    scale = max(np.abs(ours).max(), np.abs(theirs).max())
    # Columns may be alike, such as those of features that are never active: a regular order goes first.
    for order in flattened_orders(len(ours)):
        if np.abs(ours[order] - theirs).max() <= tolerance * scale:
            return order
    # One key of all moments, so that columns with the same mean are told apart.
    mix = np.array([1.0, np.sqrt(2) / 2, np.sqrt(3) / 3])
    first, second = np.argsort(ours @ mix, kind="stable"), np.argsort(theirs @ mix, kind="stable")
    if np.abs(ours[first] - theirs[second]).max() > tolerance * scale:
        return None
    order = np.empty_like(first)
    order[second] = first
    return order


def flattened_orders(size: int) -> Iterator[np.ndarray]:
    """Yield the orders of features that are flattened with their channels first or last.

    The first is the order as it is.
    """
    whole = np.arange(size)
    for channels in range(1, size):
        if size % channels == 0:
            yield whole.reshape(channels, -1).T.ravel()


def _moments(columns: np.ndarray) -> np.ndarray:
    """Mean, rms and cubic mean of each column `[columns, 3]`."""
    squares = columns * columns
    return np.stack(
        [columns.mean(0), np.sqrt(squares.mean(0)), np.cbrt((squares * columns).mean(0))], axis=1
    )


def features_last(array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Return an array as `[n, features]`, the features being on these axes."""
    axes = [axis % array.ndim for axis in axes]
    others = [axis for axis in range(array.ndim) if axis not in axes]
    size = int(np.prod([array.shape[axis] for axis in axes]))
    return array.transpose(*others, *axes).reshape(-1, size)


def patches(array: np.ndarray, window: Window, channels: int, counts: Sequence[int]) -> np.ndarray:
    """Return the patches that a convolution takes, as `[n, values]`: channels first, then the places.

    `counts` are the sizes of a kernel: input channels of a group, and its length along each axis.
    """
    array = np.moveaxis(array, channels, 1)
    array = np.pad(
        array, [(0, 0), (0, 0), *((max(0, low), max(0, high)) for low, high in window.padding)]
    )
    axes = tuple(range(2, array.ndim))
    reach = [1 + (size - 1) * step for size, step in zip(counts[1:], window.dilation, strict=True)]
    every = np.lib.stride_tricks.sliding_window_view(array, reach, axes)
    step = tuple(slice(None, None, step) for step in window.stride)
    inner = tuple(slice(None, None, step) for step in window.dilation)
    every = every[:, :, *step][(..., *inner)]
    return np.moveaxis(every, 1, len(axes) + 1).reshape(-1, int(np.prod(counts)))


def row_orders(sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the orders in which the outputs of a fused projection may be those of its parts.

    `sizes` are the outputs of the parts. First the parts in every order, one after the other; then, if
    they are as large, part by part within every head.
    """
    count, total = len(sizes), sum(sizes)
    orders = list(permutations(range(count))) if count <= MOST_PARTS else [tuple(range(count))]
    whole = np.arange(total)
    for order in orders:
        starts = dict(zip(order, np.cumsum([0, *(sizes[part] for part in order)]), strict=False))
        yield np.concatenate([whole[starts[p] : starts[p] + sizes[p]] for p in range(count)])
    if len(set(sizes)) == 1 and count > 1:
        size = sizes[0]
        for heads in (h for h in range(2, size + 1) if size % h == 0):
            blocks = whole.reshape(heads, count, size // heads)
            for order in orders:
                yield np.concatenate([blocks[:, order.index(p)].ravel() for p in range(count)])
