"""Recorded operations of JAX, run again with some of them changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import PyTree
from pipeline.verify.replay.namespace import Namespace
from pipeline.verify.replay.program import Step
from pipeline.verify.trace.graph import Window


@dataclass
class Operation(Step[PyTree]):
    """A primitive that was evaluated; `call` takes its operands and other parameters than its own."""

    call: Callable[[list[PyTree], Mapping[str, Any]], Sequence[PyTree]]
    name: str
    params: Mapping[str, Any]
    numbers: tuple[int, ...]  # which operands are numbers

    def execute(
        self,
        arrays: Sequence[PyTree],
        numbers: Mapping[int, float],
        window: Window | None,
    ) -> Sequence[PyTree]:
        """Return the results, with some numbers or the window replaced."""
        given = list(arrays)
        for order, number in numbers.items():
            at = self.numbers[order]
            given[at] = np.asarray(number, np.asarray(given[at]).dtype)
        return self.call(given, {} if window is None else slide(self.name, self.params, window))


NAMESPACE: Namespace[PyTree] = Namespace(
    jnp.exp, jnp.log, jnp.tanh, jax.scipy.special.erf, jnp.sqrt, jnp.abs, jnp.sin, jnp.where,
    lambda x, axes: x.sum(axes, keepdims=True),
    lambda x, axes: x.max(axes, keepdims=True),
    jnp.reshape, jnp.broadcast_to, jnp.matmul, jnp.swapaxes, jnp.take,
    jax.lax.stop_gradient,
    lambda x: x,  # arrays do not change
    jnp.asarray, np.asarray,
)  # fmt: skip


KINDS = {"reduce_window_max": "max", "reduce_window_sum": "sum", "conv_general_dilated": "conv"}


def find_window(
    name: str, params: Mapping[str, Any], shapes: Sequence[Sequence[int]], result: Sequence[int]
) -> Window | None:
    """Return the windows of a convolution or pooling, by the shapes of its operands; None if it is none."""
    if name not in KINDS:
        return None
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        before = [shapes[0][axis] for axis in numbers.lhs_spec[2:]]
        after = [result[axis] for axis in numbers.out_spec[2:]]
        size = tuple(shapes[1][axis] for axis in numbers.rhs_spec[2:])
        stride, dilation = params["window_strides"], params["rhs_dilation"]
        padding, spread = params["padding"], params["lhs_dilation"]
    else:
        axes = _axes(params)
        before, after = [shapes[0][axis] for axis in axes], [result[axis] for axis in axes]
        size, stride, padding, dilation, spread = (
            tuple(params[key][axis] for axis in axes) for key in POOLING
        )
    pairs = []
    for axis in range(len(size)):
        reach = (after[axis] - 1) * stride[axis] + (size[axis] - 1) * dilation[axis] + 1
        given = (before[axis] - 1) * spread[axis] + 1
        low = int(padding[axis][0])
        pairs.append((low, max(0, reach - given - low)))
    plain = (tuple(map(int, values)) for values in (size, stride, dilation, spread))
    size, stride, dilation, spread = plain
    return Window(KINDS[name], size, stride, tuple(pairs), dilation, spread)


POOLING = ("window_dimensions", "window_strides", "padding", "window_dilation", "base_dilation")


def _axes(params: Mapping[str, Any]) -> list[int]:
    """Axes along which a pooling does anything."""
    every = zip(*(params[key] for key in POOLING), strict=True)
    return [axis for axis, found in enumerate(every) if found != (1, 1, (0, 0), 1, 1)]


def slide(name: str, params: Mapping[str, Any], window: Window) -> Mapping[str, Any]:
    """Return the parameters that give a convolution or pooling other windows."""
    if name == "conv_general_dilated":
        return {
            "window_strides": window.stride,
            "padding": window.padding,
            "rhs_dilation": window.dilation,
            "lhs_dilation": window.spread,
        }
    values = window.size, window.stride, window.padding, window.dilation, window.spread
    changed = {}
    for key, new in zip(POOLING, values, strict=True):
        known = list(params[key])
        for axis, value in zip(_axes(params), new, strict=True):
            known[axis] = value
        changed[key] = tuple(known)
    return changed
