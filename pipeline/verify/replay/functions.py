"""Functions that may take the place of an operation, written once for NumPy and all frameworks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.special import erf

A = TypeVar("A")


@dataclass(frozen=True)
class Namespace(Generic[A]):
    """Functions of arrays that every framework has under its own names."""

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


def positive(xp: Any, x: Any) -> Any:
    """Positive part."""
    return xp.where(x > 0, x, 0 * x)


def clipped(xp: Any, x: Any, low: float, high: float) -> Any:
    """Values inside a range."""
    x = xp.where(x > low, x, 0 * x + low)
    return xp.where(x < high, x, 0 * x + high)


def sigmoid(xp: Any, x: Any) -> Any:
    """Logistic function."""
    return 0.5 * (1 + xp.tanh(0.5 * x))


def softplus(xp: Any, x: Any) -> Any:
    """Return log(1 + eˣ)."""
    return positive(xp, x) + xp.log(1 + xp.exp(-xp.abs(x)))


def elu(xp: Any, x: Any, alpha: float = 1.0) -> Any:
    """Exponential linear unit."""
    return xp.where(x > 0, x, alpha * (xp.exp(-positive(xp, -x)) - 1))


def gelu(xp: Any, x: Any) -> Any:
    """Return x times the normal distribution's cumulative function."""
    return 0.5 * x * (1 + xp.erf(x / math.sqrt(2)))


def gelu_tanh(xp: Any, x: Any) -> Any:
    """Return GELU's approximation by tanh (Hendrycks & Gimpel 2016)."""
    return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def softmax(xp: Any, x: Any, axis: int) -> Any:
    """Softmax over one axis."""
    exponentials = xp.exp(x - xp.largest(x, (axis,)))
    return exponentials / xp.sum(exponentials, (axis,))


def log_softmax(xp: Any, x: Any, axis: int) -> Any:
    """Logarithm of the softmax over one axis."""
    x = x - xp.largest(x, (axis,))
    return x - xp.log(xp.sum(xp.exp(x), (axis,)))


# Functions of one argument that a model may have between two layers, by the field's names.
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": positive,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": lambda xp, x: x * sigmoid(xp, 1.702 * x),
    "silu": lambda xp, x: x * sigmoid(xp, x),
    "sigmoid": sigmoid,
    "tanh": lambda xp, x: xp.tanh(x),
    "relu6": lambda xp, x: clipped(xp, x, 0, 6),
    "leaky_relu": lambda xp, x, slope=0.01: xp.where(x > 0, x, slope * x),
    "elu": elu,
    "selu": lambda xp, x: 1.0507009873554805 * elu(xp, x, 1.6732632423543772),
    "celu": lambda xp, x, alpha=1.0: elu(xp, xp.where(x > 0, alpha * x, x) / alpha, alpha),
    "softplus": softplus,
    "mish": lambda xp, x: x * xp.tanh(softplus(xp, x)),
    "hard_swish": lambda xp, x: x * clipped(xp, x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda xp, x: clipped(xp, x + 3, 0, 6) / 6,
    "hard_tanh": lambda xp, x: clipped(xp, x, -1, 1),
    "softsign": lambda xp, x: x / (1 + xp.abs(x)),
    "log_sigmoid": lambda xp, x: -softplus(xp, -x),
    "squared_relu": lambda xp, x: positive(xp, x) * positive(xp, x),
    "square": lambda xp, x: x * x,
    "abs": lambda xp, x: xp.abs(x),
    "exp": lambda xp, x: xp.exp(x),
    "sin": lambda xp, x: xp.sin(x),
}


def mean(xp: Any, x: Any, axes: Sequence[int]) -> Any:
    """Mean over axes, which keep the size 1."""
    return xp.sum(x, tuple(axes)) / math.prod(x.shape[axis] for axis in axes)


# Kinds of what a norm divides by: of which variance, and whether epsilon is added to its root.
DEVIATIONS = (
    "variance",
    "unbiased",
    "square",
    "variance outside",
    "unbiased outside",
    "square outside",
)


def deviation(xp: Any, x: Any, axes: Sequence[int], epsilon: float, kind: str) -> Any:
    """Return what a norm over some axes divides by, of one of `DEVIATIONS`."""
    count = math.prod(x.shape[axis] for axis in axes)
    centered = x if kind.startswith("square") else x - mean(xp, x, axes)
    variance = xp.sum(centered * centered, tuple(axes)) / (count - kind.startswith("unbiased"))
    return xp.sqrt(variance) + epsilon if kind.endswith("outside") else xp.sqrt(variance + epsilon)


def shaped(result: Any, like: Any, xp: Any) -> Any:
    """Return an array in the shape of another one, which may lack its axes of size 1 or repeat it."""
    shape = tuple(like.shape)
    if tuple(result.shape) == shape:
        return result
    if math.prod(result.shape) == math.prod(shape):
        return xp.reshape(result, shape)
    return xp.broadcast(result, shape)


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


def identity(xp: Any, x: Any) -> Any:
    """Return the value as it is."""
    del xp
    return x


def permuted(xp: Any, x: Any, order: Sequence[int], axis: int) -> Any:
    """Return the elements of one axis in another order."""
    return xp.take(x, np.asarray(order), axis)


def normal(
    xp: Any, like: Any, x: Any, old: Sequence[int], axes: Sequence[int], epsilon: float, kind: str,
    inverse: bool,
) -> Any:  # fmt: skip
    """Return what a norm divides by, or its inverse, in place of one over the axes `old`."""
    y = deviation(xp, x, axes, epsilon, kind)
    return _reduced(xp, 1 / y if inverse else y, x, old, like)


def other_mean(xp: Any, like: Any, x: Any, old: Sequence[int], axes: Sequence[int]) -> Any:
    """Return a mean in place of one over the axes `old`."""
    return _reduced(xp, mean(xp, x, axes), x, old, like)


def _reduced(xp: Any, y: Any, x: Any, old: Sequence[int], like: Any) -> Any:
    sizes = [1 if axis in old else size for axis, size in enumerate(x.shape)]
    if math.prod(sizes) == math.prod(like.shape):
        y = xp.broadcast(y, sizes)
    return shaped(y, like, xp)


def cut(xp: Any, x: Any, starts: Sequence[int], shape: Sequence[int]) -> Any:
    """Return a part of an array."""
    for axis, (start, size) in enumerate(zip(starts, shape, strict=True)):
        x = xp.take(x, np.arange(start, start + size), axis)
    return x


def causal(xp: Any, mask: Any, rows: int) -> Any:
    """Move a causal mask down by one row, or up."""
    size = mask.shape[-2]
    if rows > 0:
        return xp.take(mask, np.minimum(np.arange(size) + 1, size - 1), mask.ndim - 2)
    moved = xp.take(mask, np.maximum(np.arange(size) - 1, 0), mask.ndim - 2)
    hidden = xp.take(
        xp.take(mask, np.array([0]), mask.ndim - 2), np.array([size - 1]), mask.ndim - 1
    )
    is_first = xp.asarray(np.arange(size).reshape(size, 1) == 0)
    return xp.where(is_first, hidden, moved)


def pooled(xp: Any, like: Any, x: Any, axes: Sequence[int], kind: str) -> Any:
    """Return the `mean`, `sum` or `max` over axes, or the `first` or `last` of one, shaped as `like`."""
    if kind in ("first", "last"):
        y = xp.take(x, np.asarray([0 if kind == "first" else x.shape[axes[0]] - 1]), axes[0])
    elif kind == "max":
        y = xp.largest(x, tuple(axes))
    else:
        y = xp.sum(x, tuple(axes)) if kind == "sum" else mean(xp, x, axes)
    return xp.reshape(y, tuple(like.shape))


FUNCTIONS: dict[str, Callable[..., Any]] = ACTIVATIONS | {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "identity": identity,
    "like": lambda xp, like, x: shaped(x, like, xp),
    "scale": lambda xp, x, factor: x * factor,
    "shift": lambda xp, x, summand: x + summand,
    "add": lambda xp, x, y: x + y,
    "subtract": lambda xp, x, y: x - y,
    "root_outside": lambda xp, x, epsilon: xp.sqrt(x) + epsilon,
    "inverse_root_outside": lambda xp, x, epsilon: 1 / (xp.sqrt(x) + epsilon),
    "normal": normal,
    "mean": other_mean,
    "cut": cut,
    "at_most": lambda xp, x, bound: xp.where(x > bound, 0 * x + bound, x),
    "transpose": lambda xp, x: xp.swapaxes(x, 0, 1),
    "causal": causal,
    "not": lambda xp, mask: xp.where(mask, mask != mask, mask == mask),
    "resize": resized,
    "pool": pooled,
    "permute": permuted,
    "stop_gradient": lambda xp, x: xp.stop_gradient(x),
    "straight_through": lambda xp, x, y: x + xp.stop_gradient(y - x),
}
