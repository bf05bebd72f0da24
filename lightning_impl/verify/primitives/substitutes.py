"""Norms of torch in primitive operations, as JAX executes them, so that their steps can be compared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Norm = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # result, mean, 1 / standard deviation


def substitute(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[torch.Tensor, ...] | None:
    """Carry out an operation by others; None if it is left as it is."""
    found = SUBSTITUTES.get(name)
    return None if found is None else found(*args, **kwargs)


def _layer_norm(x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Norm:
    axes = list(range(-len(shape), 0))
    mean = x.mean(axes, True)
    centered = x - mean
    factor = _inverse(centered, axes, eps)
    return _affine(centered * factor, weight, bias), mean, factor


def _rms_norm(
    x: Any, shape: Any, weight: Any, eps: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    epsilon = torch.finfo(x.dtype).eps if eps is None else eps
    factor = _inverse(x, list(range(-len(shape), 0)), epsilon)
    return _affine(x * factor, weight, None), factor


def _group_norm(
    x: Any, weight: Any, bias: Any, count: int, channels: int, size: int, groups: int, eps: float
) -> Norm:
    del size
    parts = x.reshape(count, groups, -1)
    mean = parts.mean([2], True)
    centered = parts - mean
    factor = _inverse(centered, [2], eps)
    shape = [channels] + [1] * (x.ndim - 2)
    y = (centered * factor).reshape(x.shape)
    weight, bias = (None if a is None else a.reshape(shape) for a in (weight, bias))
    return _affine(y, weight, bias), mean.reshape(count, -1), factor.reshape(count, -1)


def _batch_norm(
    x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    training: bool, momentum: float, eps: float,
) -> Norm:  # fmt: skip
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [-1] + [1] * (x.ndim - 2)
    if not training:
        mean, var = running_mean, running_var
        centered = x - mean.reshape(shape)
    else:
        mean = x.mean(axes)
        centered = x - mean.reshape(shape)
        var = (centered * centered).mean(axes)
        if running_mean is not None:
            count = x.numel() // x.shape[1]
            running_mean.copy_(running_mean * (1 - momentum) + mean * momentum)
            unbiased = var * (count / (count - 1))
            running_var.copy_(running_var * (1 - momentum) + unbiased * momentum)
    factor = torch.rsqrt(var + eps)
    weight, bias = (None if a is None else a.reshape(shape) for a in (weight, bias))
    return _affine(centered * factor.reshape(shape), weight, bias), mean, factor


def _batch_norm_without(x: Any, weight: Any, bias: Any, training: bool, *rest: float) -> Norm:
    """Without running statistics."""
    return _batch_norm(x, weight, bias, None, None, training, *rest)


def _batch_norm_still(x: Any, weight: Any, bias: Any, mean: Any, var: Any, *rest: float) -> Norm:
    return _batch_norm(x, weight, bias, mean, var, False, *rest)


def _inverse(centered: Any, axes: list[int], eps: float) -> torch.Tensor:
    return torch.rsqrt((centered * centered).mean(axes, True) + eps)


def _affine(y: Any, weight: Any, bias: Any) -> torch.Tensor:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


SUBSTITUTES: dict[str, Callable[..., tuple[torch.Tensor, ...]]] = {
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit": lambda x, *rest: (
        _batch_norm if isinstance(rest[2], torch.Tensor) else _batch_norm_without
    )(x, *rest),
    "_native_batch_norm_legit_no_training": _batch_norm_still,
    "_fused_rms_norm": _rms_norm,
}
