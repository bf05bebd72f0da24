"""Shapes and orders of elements."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def shaped(result: Any, like: Any, xp: Any) -> Any:
    """Return an array in the shape of another one, which may lack its axes of size 1 or repeat it."""
    shape = tuple(like.shape)
    if tuple(result.shape) == shape:
        return result
    if math.prod(result.shape) == math.prod(shape):
        return xp.reshape(result, shape)
    return xp.broadcast(result, shape)


def permuted(xp: Any, x: Any, order: Sequence[int], axis: int) -> Any:
    """Return the elements of one axis in another order."""
    return xp.take(x, np.asarray(order), axis)


def cut(xp: Any, x: Any, starts: Sequence[int], shape: Sequence[int]) -> Any:
    """Return a part of an array."""
    for axis, (start, size) in enumerate(zip(starts, shape, strict=True)):
        x = xp.take(x, np.arange(start, start + size), axis)
    return x
