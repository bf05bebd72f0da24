"""Activation functions, and the softmax."""

import math
from collections.abc import Callable
from typing import Any


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
