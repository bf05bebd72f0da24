"""Convolutions of several runs at once, on a CPU.

`jax.vmap` makes one convolution of as many groups, which XLA computes 2 to 20 times slower there than one
convolution for each run. Small ones are faster still as products of matrices for all runs.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import batching

SMALL = 10**7  # multiplications of a run; the products may have MORE times as many
MORE = 5

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
    """Return whether products for all runs are faster than a convolution for each."""
    if options["feature_group_count"] > 1 or options["batch_group_count"] > 1:
        return False
    (batch, _, *_), (outputs, inputs, *_), _ = options["dimension_numbers"]
    n, c, o = x.shape[batch + 1], kernels.shape[inputs + 1], kernels.shape[outputs + 1]
    axes = _axes(x, kernels, options)
    i, p, w = (prod(getattr(axis, of) for axis in axes) for of in ("size", "places", "window"))
    products = min(
        i * p * w * c * o + n * i * c * p * o,  # kernels spread out first
        n * i * w * c * o + n * i * p * w * o,  # image by kernels first, as for their gradient
        n * i * c * p * w + n * p * w * c * o,  # the image under each place first
    )
    convolution = n * p * w * c * o
    return convolution <= SMALL and products <= MORE * convolution


@dataclass(frozen=True)
class _Axis:
    """One axis of the images, along which a window moves."""

    size: int
    window: int
    stride: int
    padding: tuple[int, int]
    dilation: int  # of the image
    window_dilation: int

    @property
    def places(self) -> int:
        """Number of places of the window."""
        free = (self.size - 1) * self.dilation + sum(self.padding)
        return (free - (self.window - 1) * self.window_dilation) // self.stride + 1

    @property
    def covered(self) -> np.ndarray:
        """True where an element of the window is at a point of the image: `[points, places, window]`."""
        first = self.stride * np.arange(self.places) - self.padding[0]
        elements = first[:, None] + self.window_dilation * np.arange(self.window)
        return elements == self.dilation * np.arange(self.size)[:, None, None]


def _axes(x: jax.Array, kernels: jax.Array, options: Options) -> list[_Axis]:
    (_, _, *image), (_, _, *window), _ = options["dimension_numbers"]
    sizes = (x.shape[axis + 1] for axis in image), (kernels.shape[axis + 1] for axis in window)
    names = "window_strides", "padding", "lhs_dilation", "rhs_dilation"
    return [_Axis(*own) for own in zip(*sizes, *(options[name] for name in names), strict=True)]


def _multiply(x: jax.Array, kernels: jax.Array, options: Options) -> jax.Array:
    """Convolve by products with a table of zeros and ones, in the order that takes the fewest operations."""
    (batch, features, *image), (outputs, inputs, *window), of_result = options["dimension_numbers"]
    axes = _axes(x, kernels, options)
    x = _transposed(x, [batch, *image, features])
    kernels = _transposed(kernels, [*window, inputs, outputs])
    covered = reduce(_outer, (axis.covered for axis in axes), np.ones((1, 1, 1), bool))
    wide = jnp.promote_types(x.dtype, jnp.float32)  # what is between the products is not rounded
    y = jnp.einsum(
        "ipw,rnic,rwco->rnpo",
        jnp.asarray(covered, x.dtype),
        x.reshape(*x.shape[:2], -1, x.shape[-1]),
        kernels.reshape(len(kernels), -1, *kernels.shape[-2:]),
        precision=options["precision"],
        preferred_element_type=wide,
    )
    y = y.reshape(*y.shape[:2], *(axis.places for axis in axes), y.shape[-1])
    y = y.astype(options["preferred_element_type"] or x.dtype)
    placed = [of_result[0], *of_result[2:], of_result[1]]
    return _transposed(y, [placed.index(axis) for axis in range(len(placed))])


def _outer(table: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the table for two axes together."""
    both = np.einsum("ipw,jqv->ijpqwv", table, other)
    return both.reshape([one * more for one, more in zip(table.shape, other.shape, strict=True)])


def _transposed(x: jax.Array, axes: Sequence[int]) -> jax.Array:
    """Transpose the arrays of all runs."""
    return x.transpose(0, *(axis + 1 for axis in axes))
