"""Convolutions and max-pools of several runs at once, with the channels of all runs last.

On a CPU they take a third of the time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Dims = Sequence[int | None]  # axis of the runs in each argument; None: the same for all


class MappedConvolutions(TorchFunctionMode):
    """Replaces convolutions and max-pools while it is entered: `torch.func.vmap` puts channels first."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what takes its place."""
        if func is torch.conv2d and len(args) == 7 and not kwargs:
            return _Convolution.apply(*args)
        options = dict(kwargs or {})
        if func is F.max_pool2d and args[0].ndim == 4 and not options.get("return_indices"):
            return _MaxPool.apply(args[0], args[1:], options)
        return func(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """torch.conv2d: of several runs it is one of as many groups."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        return torch.conv2d(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: autograd differentiates what `vmap` calls."""

    @staticmethod
    def vmap(  # pyrefly: ignore[bad-override] torch's own is of any arguments
        info: Any,
        dims: Dims,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> tuple[Tensor, int]:
        runs = info.batch_size
        weight = _of_all(weight, dims[1], 0, runs)
        bias = None if bias is None else _of_all(bias, dims[2], 0, runs).flatten()
        if dims[0] is None and groups == 1:
            images, parts = _channels_last(images), 1
        else:
            images, parts = _merged(images, dims[0], runs), runs * groups
        found = torch.conv2d(images, weight.flatten(0, 1), bias, stride, padding, dilation, parts)
        return found.unflatten(1, (runs, -1)), 1


class _MaxPool(torch.autograd.Function):
    """F.max_pool2d: of several runs it is one of all channels."""

    @staticmethod
    def forward(images: Tensor, args: Sequence[Any], options: Mapping[str, Any]) -> Tensor:
        return F.max_pool2d(images, *args, **options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: autograd differentiates what `vmap` calls."""

    @staticmethod
    def vmap(  # pyrefly: ignore[bad-override] torch's own is of any arguments
        info: Any, dims: Dims, images: Tensor, args: Sequence[Any], options: Mapping[str, Any]
    ) -> tuple[Tensor, int]:
        images = _merged(images, dims[0], info.batch_size)
        found = F.max_pool2d(images, *args, **options)
        return found.unflatten(1, (info.batch_size, -1)), 1


def _of_all(tensor: Tensor, axis: int | None, place: int, runs: int) -> Tensor:
    """Return a tensor with an axis of all runs at some place."""
    if axis is None:
        return tensor.unsqueeze(place).expand(*tensor.shape[:place], runs, *tensor.shape[place:])
    return tensor.movedim(axis, place)


def _merged(images: Tensor, axis: int | None, runs: int) -> Tensor:
    """Return images of all runs `[batch, runs × channels, height, width]`."""
    return _channels_last(_of_all(images, axis, 1, runs).flatten(1, 2))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
