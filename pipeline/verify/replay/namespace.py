"""Functions of arrays that NumPy and every framework have under names of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.special import erf

A = TypeVar("A")


@dataclass(frozen=True)
class Namespace(Generic[A]):
    """Functions of the arrays of one framework."""

    exp: Callable[[A], A]
    log: Callable[[A], A]
    tanh: Callable[[A], A]
    erf: Callable[[A], A]
    sqrt: Callable[[A], A]
    abs: Callable[[A], A]
    sin: Callable[[A], A]
    where: Callable[[Any, Any, Any], A]
    sum: Callable[[A, tuple[int, ...]], A]  # over axes, which keep the size 1
    largest: Callable[[A, tuple[int, ...]], A]  # the same
    reshape: Callable[[A, Sequence[int]], A]
    broadcast: Callable[[A, Sequence[int]], A]
    matmul: Callable[[A, A], A]
    swapaxes: Callable[[A, int, int], A]
    take: Callable[[A, np.ndarray, int], A]  # elements of one axis in this order
    stop_gradient: Callable[[A], A]
    copy: Callable[[A], A]
    asarray: Callable[[np.ndarray], A]
    to_numpy: Callable[[A], np.ndarray]


NUMPY: Namespace[np.ndarray] = Namespace(
    np.exp, np.log, np.tanh, erf, np.sqrt, np.abs, np.sin, np.where,
    lambda x, axes: x.sum(axes, keepdims=True),
    lambda x, axes: x.max(axes, keepdims=True),
    np.reshape, np.broadcast_to, np.matmul, np.swapaxes, np.take,
    np.asarray, np.copy, np.asarray, np.asarray,
)  # fmt: skip
