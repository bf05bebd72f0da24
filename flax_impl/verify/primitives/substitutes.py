"""Primitives of JAX carried out by NumPy: nothing is compiled to execute each of them once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy import special

from flax_impl.device import PyTree
from flax_impl.verify.primitives.convolution import convolve
from flax_impl.verify.primitives.indexing import (
    dynamic_slice,
    dynamic_update_slice,
    gather,
    pad,
    position,
    running,
    scatter_add,
)


def substitute(
    name: str, arrays: Sequence[PyTree], params: Mapping[str, Any]
) -> list[np.ndarray] | None:
    """Carry out a primitive by NumPy; None if it is left to JAX."""
    found = SUBSTITUTES.get(name)
    if found is None or not all(map(_is_known, arrays)):
        return None
    arrays = [np.asarray(array) for array in arrays]
    if any(array.dtype.kind not in "biuf" or array.dtype.itemsize < 1 for array in arrays):
        return None
    with np.errstate(all="ignore"):
        result = found(*arrays, **params)
    return None if result is None else result if isinstance(result, list) else [result]


def _is_known(array: PyTree) -> bool:
    if isinstance(array, jax.core.Tracer):
        return False
    is_key = jax.dtypes.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.extended)
    return isinstance(array, np.ndarray | np.generic | jax.Array | float | int) and not is_key


def _broadcast(x: np.ndarray, shape: Any, broadcast_dimensions: Any, **_: object) -> np.ndarray:
    sizes = dict(zip(broadcast_dimensions, x.shape, strict=True))
    return np.broadcast_to(np.reshape(x, [sizes.get(a, 1) for a in range(len(shape))]), shape)


def _slice(
    x: np.ndarray, start_indices: Any, limit_indices: Any, strides: Any, **_: object
) -> np.ndarray:
    return x[tuple(map(slice, start_indices, limit_indices, strides or (1,) * x.ndim))]


# Primitives that only show the elements of an array in another order or shape.
VIEWS: dict[str, Callable[..., Any]] = {
    "transpose": lambda x, permutation, **_: np.transpose(x, permutation),
    "reshape": lambda x, new_sizes, dimensions=None, **_: np.reshape(
        x if dimensions is None else np.transpose(x, dimensions), new_sizes
    ),
    "squeeze": lambda x, dimensions, **_: np.squeeze(x, dimensions),
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "concatenate": lambda *xs, dimension, **_: np.concatenate(xs, dimension),
    "rev": lambda x, dimensions, **_: np.flip(x, dimensions),
    "split": lambda x, sizes, axis, **_: np.split(x, np.cumsum(sizes)[:-1], axis),
    "convert_element_type": lambda x, **_: x,
    "copy": lambda x, **_: x,
    "copy_p": lambda x, **_: x,
    "stop_gradient": lambda x, **_: x,
    "optimization_barrier": lambda *xs, **_: list(xs),
    "reduce_precision": lambda x, **_: x,
    "sharding_constraint": lambda x, **_: x,
    "device_put": lambda *xs, **_: list(xs),
}


def _dot(x: np.ndarray, y: np.ndarray, dimension_numbers: Any, **_: object) -> np.ndarray:
    """Product with batch axes first, then the free axes of both."""
    contracted, batch = dimension_numbers
    shape = [x.shape[axis] for axis in batch[0]]
    inner = int(np.prod([x.shape[axis] for axis in contracted[0]]))
    free = [
        [axis for axis in range(array.ndim) if axis not in (*axes, *first)]
        for array, axes, first in zip((x, y), contracted, batch, strict=True)
    ]
    rows, columns = ([a.shape[axis] for axis in axes] for a, axes in zip((x, y), free, strict=True))
    left = x.transpose(*batch[0], *free[0], *contracted[0])
    right = y.transpose(*batch[1], *contracted[1], *free[1])
    left = left.reshape(*shape, int(np.prod(rows)), inner)
    right = right.reshape(*shape, inner, int(np.prod(columns)))
    return np.matmul(left, right).reshape((*shape, *rows, *columns))


def _of_floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """Leave other types than float64 to JAX."""

    def call(*xs: np.ndarray, **_: object) -> Any:
        return function(*xs) if all(x.dtype == np.float64 for x in xs) else None

    return call


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, **_: function(x, axis=tuple(axes)).astype(x.dtype)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs, **_: function(*xs)


FLOATS: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "max": np.maximum, "min": np.minimum, "abs": np.abs, "exp": np.exp, "log": np.log, "tanh": np.tanh,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "exp2": np.exp2,
    "log1p": np.log1p, "expm1": np.expm1, "logistic": special.expit, "erf": special.erf,
    "erfc": special.erfc, "square": np.square, "floor": np.floor, "sign": np.sign, "pow": np.power,
    "ceil": np.ceil, "tan": np.tan, "cbrt": np.cbrt, "erf_inv": special.erfinv,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high), "add_any": np.add,
}  # fmt: skip
COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "not": np.invert, "is_finite": np.isfinite,
}  # fmt: skip
INTEGERS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum,
    "min": np.minimum}  # fmt: skip


def _either(name: str) -> Callable[..., Any]:
    """Floats and integers of one type; JAX's integers wrap as NumPy's arrays do."""

    def call(*xs: np.ndarray, **_: object) -> Any:
        if all(x.dtype == np.float64 for x in xs):
            return FLOATS[name](*xs)
        same = len({x.dtype for x in xs}) == 1 and xs[0].dtype.kind in "iu"
        return np.asarray(INTEGERS[name](*xs), xs[0].dtype) if same else None

    return call


SUBSTITUTES: dict[str, Callable[..., Any]] = (
    {name: _of_floats(function) for name, function in FLOATS.items()}
    | {name: _either(name) for name in INTEGERS}
    | {name: _plain(function) for name, function in COMPARISONS.items()}
    | {n: f for n, f in VIEWS.items() if n not in ("reduce_precision", "device_put")}
    | {
        "convert_element_type": lambda x, new_dtype, **_: x.astype(new_dtype),
        "integer_pow": lambda x, y, **_: x**y if x.dtype == np.float64 else None,
        "select_n": lambda which, *cases, **_: (
            np.where(which, cases[1], cases[0]) if which.dtype == bool and len(cases) == 2 else None
        ),
        "iota": lambda dtype, shape, dimension, **_: _broadcast(
            np.arange(shape[dimension], dtype=dtype), shape, (dimension,)
        ),
        "round": lambda x, rounding_method, **_: np.rint(x) if int(rounding_method) == 1 else None,
        "argmax": position(np.argmax), "argmin": position(np.argmin),
        "cumsum": running(np.add), "cumprod": running(np.multiply), "cummax": running(np.maximum),
        "cummin": running(np.minimum), "pad": pad, "gather": gather, "scatter-add": scatter_add,
        "dynamic_slice": dynamic_slice, "dynamic_update_slice": dynamic_update_slice,
        "conv_general_dilated": lambda x, y, **params: (
            convolve(x, y, **params) if x.dtype == y.dtype == np.float64 else None
        ),
        "reduce_sum": _reduced(np.sum), "reduce_max": _reduced(np.max), "reduce_min": _reduced(np.min),
        "reduce_prod": _reduced(np.prod), "reduce_and": _reduced(np.all), "reduce_or": _reduced(np.any),
        "dot_general": lambda x, y, **params: (
            _dot(x, y, **params) if x.dtype == y.dtype == np.float64 else None
        ),
    }
)  # fmt: skip
