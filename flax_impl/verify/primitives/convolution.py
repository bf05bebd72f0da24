"""Convolution in NumPy, of any number of dimensions, with everything that JAX's primitive has."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def convolve(
    x: Array,
    kernel: Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: object,
) -> Array:
    """Return what `conv_general_dilated` does."""
    x = x.transpose(dimension_numbers.lhs_spec)  # [batch, in, …]
    kernel = kernel.transpose(dimension_numbers.rhs_spec)  # [out, in of a group, …]
    groups = max(feature_group_count, batch_group_count)
    parts = np.split(x, groups, axis=1 if feature_group_count > 1 else 0)
    kernels = np.split(kernel, groups, axis=0)
    outs = [
        _convolve(part, own, window_strides, padding, lhs_dilation, rhs_dilation)
        for part, own in zip(parts, kernels, strict=True)
    ]
    out = np.concatenate(outs, axis=1)
    return out.transpose(np.argsort(dimension_numbers.out_spec))


def _convolve(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    spread: Sequence[int],
    dilation: Sequence[int],
) -> Array:
    """Convolve `[batch, in, …]` with `[out, in, …]`: a sum of matrix products over offsets."""
    x = _padded(x, padding, spread)
    sizes = x.shape[2:]
    window = kernel.shape[2:]
    outs = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(sizes, window, strides, dilation, strict=True)
    ]
    features = (x.shape[0], kernel.shape[0])
    if min(outs, default=1) <= 0:
        return np.zeros((*features, *(max(0, n) for n in outs)), x.dtype)
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1))  # [batch, …, in]
    if np.prod(window) <= np.prod(outs):
        total = np.zeros((x.shape[0], *outs, kernel.shape[0]), x.dtype)
        for offset in np.ndindex(*window):
            shown = x[(slice(None), *(
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, d, n, s in zip(offset, dilation, outs, strides, strict=True)
            ))]  # fmt: skip
            total += shown @ kernel[(slice(None), slice(None), *offset)].T
    else:  # a gradient by the kernel: a few outputs, each a sum over a wide window
        total = np.zeros((x.shape[0], *outs, kernel.shape[0]), x.dtype)
        wide = np.moveaxis(kernel, 1, -1).reshape(kernel.shape[0], -1).T
        for place in np.ndindex(*outs):
            shown = x[(slice(None), *(
                slice(o * s, o * s + (k - 1) * d + 1, d)
                for o, d, k, s in zip(place, dilation, window, strides, strict=True)
            ))]  # fmt: skip
            total[(slice(None), *place)] = shown.reshape(x.shape[0], -1) @ wide
    return np.moveaxis(total, -1, 1)


def _padded(x: Array, padding: Sequence[tuple[int, int]], spread: Sequence[int]) -> Array:
    """Put zeros between the values and around them; negative padding cuts."""
    sizes = [(n - 1) * s + 1 if n else 0 for n, s in zip(x.shape[2:], spread, strict=True)]
    if any(s > 1 for s in spread):
        wide = np.zeros((*x.shape[:2], *sizes), x.dtype)
        wide[(slice(None), slice(None), *(slice(None, None, s) for s in spread))] = x
        x = wide
    cut = tuple(
        slice(max(0, -low), n - max(0, -high))
        for n, (low, high) in zip(sizes, padding, strict=True)
    )
    x = x[(slice(None), slice(None), *cut)]
    return np.pad(x, [(0, 0), (0, 0), *((max(0, low), max(0, high)) for low, high in padding)])
