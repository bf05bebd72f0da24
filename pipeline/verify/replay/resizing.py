"""Interpolation of images along their axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def resized(
    xp: Any, x: Any, axes: Sequence[int], sizes: Sequence[int], kind: str, antialias: bool
) -> Any:
    """Resize axes one after the other, with the weights of `resizing`."""
    for axis, size in zip(axes, sizes, strict=True):
        weights = xp.asarray(resizing(x.shape[axis], size, kind, antialias).T)
        x = xp.swapaxes(xp.matmul(xp.swapaxes(x, axis, -1), weights), axis, -1)
    return x


def resizing(before: int, after: int, kind: str, antialias: bool = False) -> np.ndarray:
    """Return the weights `[after, before]` of an interpolation along one axis.

    `kind` is `nearest`, `nearest-exact`, `linear`, `cubic`, `linear-corners`, `cubic-corners` (corners are
    aligned), or `linear-whole` (pixels lie at whole numbers, not at their centers).
    """
    scale = before / after
    at = np.arange(after)
    if kind == "nearest":
        return np.eye(before)[np.floor(at * scale).astype(int)]
    if kind == "nearest-exact":
        return np.eye(before)[np.floor((at + 0.5) * scale).astype(int)]
    has_corners = kind.endswith("corners")
    centers = at * (before - 1) / max(after - 1, 1) if has_corners else (at + 0.5) * scale - 0.5
    if kind.endswith("whole"):
        centers = at * scale
    width = max(scale, 1.0) if antialias else 1.0
    if kind.startswith("linear"):
        reach = 2
        kernel = _triangle
    else:
        reach = 3
        kernel = _cubic if antialias else _cubic_sharp
    first = np.floor(centers).astype(int)
    weights = np.zeros((after, before))
    span = int(np.ceil(reach * width)) + 1
    for offset in range(-span, span + 1):
        place = first + offset
        share = kernel((place - centers) / width)
        if antialias:  # what lies outside does not count
            inside = (place >= 0) & (place < before)
            np.add.at(weights, (at[inside], place[inside]), share[inside])
        else:  # the border is repeated
            np.add.at(weights, (at, np.clip(place, 0, before - 1)), share)
    return weights / weights.sum(1, keepdims=True)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys' kernel (1981)."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _cubic_sharp(x: np.ndarray) -> np.ndarray:
    return _cubic(x, -0.75)  # torch's, without antialiasing
