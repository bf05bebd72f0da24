"""Functions that may take the place of an operation, written once for NumPy and all frameworks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.verify.replay.activations import ACTIVATIONS, log_softmax, softmax
from pipeline.verify.replay.norms import mean, normal, other_mean
from pipeline.verify.replay.resizing import resized
from pipeline.verify.replay.shapes import cut, permuted, shaped


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


def token_loss(xp: Any, logits: Any, labels: Any, shift: int) -> Any:
    """Mean cross-entropy of logits `[batch, length, classes]`, against the labels of later places."""
    batch, length, classes = logits.shape
    logits = xp.take(logits, np.arange(length - shift), 1)
    labels = xp.reshape(xp.take(labels, np.arange(shift, length), 1), (batch, length - shift, 1))
    chances = log_softmax(xp, logits, 2)
    chosen = xp.where(labels == xp.asarray(np.arange(classes)), chances, 0 * chances)
    return xp.reshape(-xp.sum(chosen, (0, 1, 2)) / (batch * (length - shift)), ())


FUNCTIONS: dict[str, Callable[..., Any]] = ACTIVATIONS | {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "shares": lambda xp, x, axis: x / xp.sum(x, (axis,)),
    "token_loss": token_loss,
    "identity": lambda xp, x: x,
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
