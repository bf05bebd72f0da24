"""Recorded operations of torch, run again with some of them changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.verify.replay.namespace import Namespace
from pipeline.verify.replay.program import Step
from pipeline.verify.trace.graph import Window

aten = torch.ops.aten


@dataclass(frozen=True)
class Slot:
    """Place of a tensor among the arguments of an operation."""

    at: int


@dataclass
class Operation(Step[torch.Tensor]):
    """A dispatched operation, with slots for the tensors among its arguments."""

    call: Callable[..., object]
    name: str
    args: tuple
    kwargs: Mapping[str, Any]

    def execute(
        self,
        arrays: Sequence[torch.Tensor],
        numbers: Mapping[int, float],
        window: Window | None,
    ) -> Sequence[torch.Tensor]:
        """Return the results, with some numbers or the window replaced."""
        args, kwargs = self.args, dict(self.kwargs)
        if numbers:
            given = _renumbered((args, tuple(kwargs.values())), dict(numbers), [0])
            args, kwargs = given[0], dict(zip(kwargs, given[1], strict=True))
        args = filled(args, arrays)
        if window is not None:
            return slide(self.name, args, window)
        if self.name in ("view", "_unsafe_view"):  # of what an edit makes, in another order
            return [args[0].reshape(args[1])]
        return list(tensors(self.call(args, {k: filled(v, arrays) for k, v in kwargs.items()})))


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values; NumPy has no bf16."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()


NAMESPACE: Namespace[torch.Tensor] = Namespace(
    torch.exp, torch.log, torch.tanh, torch.erf, torch.sqrt, torch.abs, torch.sin, torch.where,
    lambda x, axes: x.sum(axes, keepdim=True),
    lambda x, axes: x.amax(axes, keepdim=True),
    torch.reshape, torch.broadcast_to, torch.matmul, torch.swapaxes,
    lambda x, order, axis: x.index_select(axis, torch.as_tensor(order)),
    torch.detach, torch.clone,
    lambda x: torch.from_numpy(np.array(x, order="C")),
    to_numpy,
)  # fmt: skip


def find_window(name: str, args: Sequence[Any], result: torch.Tensor) -> Window | None:
    """Return the windows of a convolution or pooling; None if it is none."""
    if name not in ("convolution", "max_pool2d_with_indices", "avg_pool2d"):
        return None
    axes = args[0].ndim - 2
    before, after = args[0].shape[2:], result.shape[2:]
    spread, counts = (1,) * axes, True
    if name == "convolution":
        kind, size = "conv", tuple(args[1].shape[2:])
        stride, padding, dilation = (_each(value, axes) for value in args[3:6])
        if args[6]:  # transposed: a convolution of the data with zeros between them
            spread, stride = stride, spread
            padding = tuple(
                d * (k - 1) - p for d, k, p in zip(dilation, size, padding, strict=True)
            )
    else:
        kind, size = "max" if name.startswith("max") else "mean", _each(args[1], axes)
        stride = _each(args[2], axes) if len(args) > 2 and args[2] else size
        padding = _each(args[3], axes) if len(args) > 3 else (0,) * axes
        dilation = _each(args[4], axes) if kind == "max" and len(args) > 4 else (1,) * axes
        counts = kind == "max" or len(args) < 6 or bool(args[5])
    pairs = []
    for axis in range(axes):
        reach = (after[axis] - 1) * stride[axis] + (size[axis] - 1) * dilation[axis] + 1
        given = (before[axis] - 1) * spread[axis] + 1
        pairs.append((padding[axis], max(0, reach - given - padding[axis])))
    return Window(kind, size, stride, tuple(pairs), dilation, spread, counts)


def slide(name: str, args: Sequence[Any], window: Window) -> Sequence[torch.Tensor]:
    """Convolve or pool with other windows than an operation's own."""
    x, padding = args[0], [end for pair in window.padding[::-1] for end in pair]
    if window.kind == "max":
        x = functional.pad(x, padding, value=-torch.inf)
        y = aten.max_pool2d_with_indices(x, window.size, window.stride, [0, 0], window.dilation)
        return y if name == "max_pool2d_with_indices" else y[:1]
    if window.kind == "mean":
        pool = functional.avg_pool2d
        y = pool(functional.pad(x, padding), window.size, window.stride)
        if not window.counts_padding:
            y = y / pool(functional.pad(torch.ones_like(x), padding), window.size, window.stride)
        return [y, y.long()] if name.endswith("_with_indices") else [y]
    if name != "convolution" or (args[6] and args[8] != 1):
        raise NotImplementedError(f"windows of {name}")
    kernel = args[1]
    if args[6]:
        kernel = kernel.transpose(0, 1).flip(tuple(range(2, kernel.ndim)))
    x = functional.pad(_spread(x, window.spread), padding)
    zero = [0] * len(window.size)
    rest = window.stride, zero, window.dilation, False, zero, args[8]
    return [aten.convolution(x, kernel, args[2], *rest)]


def _spread(x: torch.Tensor, factors: Sequence[int]) -> torch.Tensor:
    """Return the values with zeros between them."""
    for axis, factor in enumerate(factors, 2):
        if factor > 1:
            moved = functional.pad(x.movedim(axis, -1).unsqueeze(-1), (0, factor - 1))
            x = moved.flatten(-2)[..., : 1 - factor].movedim(-1, axis)
    return x


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * axes if len(values) == 1 else values


def slotted(value: Any, slots: Mapping[int, int]) -> Any:
    """Return arguments with slots in place of tensors, which are numbered by their ids."""
    if isinstance(value, torch.Tensor):
        return Slot(slots[id(value)])
    if isinstance(value, list | tuple):
        return type(value)(slotted(item, slots) for item in value)
    return value


def filled(value: Any, arrays: Sequence[torch.Tensor]) -> Any:
    """Return arguments with tensors in their slots."""
    if isinstance(value, Slot):
        return arrays[value.at]
    if isinstance(value, list | tuple):
        return type(value)(filled(item, arrays) for item in value)
    return value


def _renumbered(value: Any, numbers: dict[int, float], seen: list[int]) -> Any:
    """Replace numbers by their order in `Op.numbers`; an integer stays one where it can."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        new = numbers.get(seen[0], value)
        seen[0] += 1
        return int(new) if isinstance(value, int) and float(new).is_integer() else new
    if isinstance(value, list | tuple):
        return type(value)(_renumbered(item, numbers, seen) for item in value)
    return value


def tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors of a nested value."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
