"""Convolutions of several runs at once, on a CPU.

`jax.vmap` makes one convolution of as many groups, which XLA computes 2 to 20 times slower there than one
convolution for each run. Small ones are faster still as one product of matrices.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import batching

SMALL = 2**19  # bytes that the product of one run copies; more do not stay in the cache of a core
FEW = 4  # features of an image

Options = dict[str, Any]  # of `lax.conv_general_dilated`


class MappedConvolutions(AbstractContextManager[None]):
    """Lets what is traced within compute the convolutions of several runs so, if it is for a CPU."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rules: dict[Any, Callable[..., Any]] = batching.fancy_primitive_batchers
        self.usual = self.rules[lax.conv_general_dilated_p]

    def __enter__(self) -> None:
        """Replace JAX's rule of `jax.vmap`."""
        if self.kind == "cpu":
            self.rules[lax.conv_general_dilated_p] = self._rule

    def __exit__(self, *error: object) -> None:
        """Put JAX's rule back."""
        self.rules[lax.conv_general_dilated_p] = self.usual

    def _rule(
        self, runs: Any, arrays: Sequence[jax.Array], axes: Sequence[int | None], **options: Any
    ) -> tuple[jax.Array, int]:
        if axes[1] is None:  # the same kernels for all
            return self.usual(runs, arrays, axes, **options)
        x, kernels = (
            jnp.broadcast_to(array, (runs.size, *array.shape)) if axis is None
            else jnp.moveaxis(array, axis, 0)
            for array, axis in zip(arrays, axes, strict=True)
        )  # fmt: skip
        return _convolve(x, kernels, options), 0


def _convolve(x: jax.Array, kernels: jax.Array, options: Options) -> jax.Array:
    """Convolve the images of each run with its kernels; the runs are the first axis."""
    if _is_small(x, kernels, options):
        return _multiply(x, kernels, options)
    each = [
        lax.conv_general_dilated_p.bind(image, kernel, **options)
        for image, kernel in zip(x, kernels, strict=True)
    ]
    return jnp.stack(each)


def _is_small(x: jax.Array, kernels: jax.Array, options: Options) -> bool:
    """Return whether a product for all runs is faster than a convolution for each."""
    (batch, features, *_), (outputs, inputs, *window), _ = options["dimension_numbers"]
    if options["feature_group_count"] > 1 or options["batch_group_count"] > 1:
        return False
    if batch > features:  # the gradient of kernels, with a window as large as the image
        return False
    elements = prod(kernels.shape[axis + 1] for axis in window)
    copied = x[0].size // x.shape[features + 1] * elements
    copied *= min(kernels.shape[axis + 1] for axis in (inputs, outputs))
    return elements == 1 or copied * x.dtype.itemsize <= SMALL


@dataclass(frozen=True)
class _Axis:
    """One axis of the images, along which a window moves."""

    at: int
    window: int
    stride: int
    padding: tuple[int, int]
    dilation: int  # of the image
    window_dilation: int

    def under(self, x: jax.Array, index: int) -> jax.Array:
        """Return what lies under one element of the window, for each place of the window."""
        size = (x.shape[self.at] - 1) * self.dilation + 1
        last = size + sum(self.padding) - (self.window - 1) * self.window_dilation
        before = self.padding[0] - index * self.window_dilation
        edges = [(0, 0, 0)] * x.ndim
        edges[self.at] = (before, last - before - size, self.dilation - 1)
        padded = lax.pad(x, jnp.zeros((), x.dtype), edges)
        return lax.slice_in_dim(padded, 0, last, self.stride, self.at)


def _multiply(x: jax.Array, kernels: jax.Array, options: Options) -> jax.Array:
    """Convolve as a product: of all that lies under the window, or, if that is less, added up after it."""
    of_x, of_kernels, of_result = options["dimension_numbers"]
    (batch, features, *image), (outputs, inputs, *window) = of_x, of_kernels
    x = _transposed(x, [batch, *image, features])
    kernels = _transposed(kernels, [*window, inputs, outputs])
    axes = [
        _Axis(2 + number, kernels.shape[1 + number], *of_axis)
        for number, of_axis in enumerate(
            zip(
                options["window_strides"], options["padding"],
                options["lhs_dilation"], options["rhs_dilation"], strict=True,
            )
        )
    ]  # fmt: skip
    runs, inputs, outputs = kernels.shape[0], *kernels.shape[-2:]

    def times(x: jax.Array, matrix: jax.Array) -> jax.Array:
        return jnp.einsum(
            "r...i,rio->r...o", x, matrix, precision=options["precision"],
            preferred_element_type=options["preferred_element_type"],
        )  # fmt: skip

    if inputs > outputs:
        y = times(x, jnp.moveaxis(kernels, -2, 1).reshape(runs, inputs, -1))
        parts = jnp.split(y, prod(axis.window for axis in axes), -1)
        y = sum(_under(axes, parts), jnp.zeros((), y.dtype))
    else:
        # Rows of few numbers are slow to copy, and longer after the first axis.
        for moved in [[axis] for axis in reversed(axes)] if inputs < FEW else [axes]:
            parts = [x] * prod(axis.window for axis in moved)
            x = jnp.concatenate(list(_under(moved, parts)), -1)
        y = times(x, kernels.reshape(runs, -1, outputs))
    placed = [of_result[0], *of_result[2:], of_result[1]]
    return _transposed(y, [placed.index(axis) for axis in range(len(placed))])


def _under(axes: Sequence[_Axis], parts: Sequence[jax.Array]) -> Iterator[jax.Array]:
    """Yield what lies under each element of the window, of one array for each element."""
    elements = product(*(range(axis.window) for axis in axes))
    for element, part in zip(elements, parts, strict=True):
        for axis, index in zip(axes, element, strict=True):
            part = axis.under(part, index)
        yield part


def _transposed(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Transpose the arrays of all runs."""
    return x.transpose(0, *(axis + 1 for axis in axes))
