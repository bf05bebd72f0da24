"""JAX's primitives that pick, set and pad elements, carried out by NumPy in the forms that models use."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def gather(
    table: np.ndarray, rows: np.ndarray, dimension_numbers: Any, slice_sizes: Any, **_: object
) -> np.ndarray | None:
    """Return rows of a table, as an embedding does; None for another form, or a row that is not there."""
    numbers, features = dimension_numbers, _features(table, rows)
    is_lookup = (
        numbers.collapsed_slice_dims == (0,) and numbers.start_index_map == (0,)
        and numbers.offset_dims == features and not numbers.operand_batching_dims
        and tuple(slice_sizes) == (1, *table.shape[1:])
    )  # fmt: skip
    return table[rows[..., 0]] if is_lookup and _are_there(table, rows) else None


def scatter_add(
    table: np.ndarray, rows: np.ndarray, updates: np.ndarray, dimension_numbers: Any, **_: object
) -> np.ndarray | None:
    """Add to rows of a table, as the gradient of an embedding does; None for another form."""
    numbers = dimension_numbers
    is_lookup = (
        numbers.inserted_window_dims == (0,) and numbers.scatter_dims_to_operand_dims == (0,)
        and numbers.update_window_dims == _features(table, rows) and not numbers.operand_batching_dims
        and updates.shape == (*rows.shape[:-1], *table.shape[1:])
    )  # fmt: skip
    if not is_lookup or not _are_there(table, rows):
        return None
    out = table.copy()
    np.add.at(out, rows[..., 0], updates)
    return out


def _features(table: np.ndarray, rows: np.ndarray) -> tuple[int, ...]:
    """Axes of the features of the rows, in the result."""
    return tuple(range(rows.ndim - 1, rows.ndim - 2 + table.ndim))


def _are_there(table: np.ndarray, rows: np.ndarray) -> bool:
    """True if all rows are in the table; what JAX does with others depends on the mode."""
    return bool(rows.shape[-1] == 1 and rows.size and rows.min() >= 0 and rows.max() < len(table))


def pad(
    x: np.ndarray, value: np.ndarray, padding_config: Sequence[Sequence[int]], **_: object
) -> np.ndarray | None:
    """Put a value around the elements and between them; None where elements are cut off."""
    if any(low < 0 or high < 0 for low, high, _ in padding_config):
        return None
    shape = [
        low + high + size + max(0, size - 1) * between
        for size, (low, high, between) in zip(x.shape, padding_config, strict=True)
    ]
    out = np.full(shape, value, x.dtype)
    out[
        tuple(
            slice(low, low + max(0, (size - 1) * (between + 1) + 1), between + 1)
            for size, (low, _, between) in zip(x.shape, padding_config, strict=True)
        )
    ] = x
    return out


def dynamic_slice(x: np.ndarray, *starts: np.ndarray, slice_sizes: Any, **_: object) -> Any:
    """Return a part whose place is computed; it is moved to lie inside."""
    return x[_window(x, starts, slice_sizes)] if len(starts) == x.ndim else None


def dynamic_update_slice(x: np.ndarray, new: np.ndarray, *starts: np.ndarray, **_: object) -> Any:
    """Set a part whose place is computed."""
    out = x.copy()
    out[_window(x, starts, new.shape)] = new
    return out


def _window(x: np.ndarray, starts: Sequence[np.ndarray], sizes: Sequence[int]) -> tuple[slice, ...]:
    first = [min(max(int(s), 0), n - k) for s, n, k in zip(starts, x.shape, sizes, strict=True)]
    return tuple(slice(s, s + size) for s, size in zip(first, sizes, strict=True))


def running(function: np.ufunc) -> Callable[..., Any]:
    """Return a running sum, product, …"""

    def call(x: np.ndarray, axis: int, reverse: bool, **_: object) -> np.ndarray:
        x = np.flip(x, axis) if reverse else x
        out = function.accumulate(x, axis=axis, dtype=x.dtype)
        return np.flip(out, axis) if reverse else out

    return call


def position(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the place of the largest or smallest element; None where one is not a number."""

    def call(x: np.ndarray, axes: Sequence[int], index_dtype: Any, **_: object) -> Any:
        if len(axes) != 1 or np.isnan(x).any():
            return None
        return np.asarray(function(x, axis=axes[0]), index_dtype)

    return call
