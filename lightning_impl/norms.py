"""Normalisation as torch defines it: epsilon, running variance, two passes, and never in half precision."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the second, the channels.

    torch's own: of a batch in bf16 it takes the statistics in float32, and keeps the unbiased variance.
    """


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batch of all devices, as torch's own, which refuses CPUs.

    Only here: to XLA the batch of all devices is one array.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, …]` to the same; statistics of all devices' batches when training."""
        if not self.training:
            return super().forward(x)
        channels, axes = x.shape[1], [0, *range(2, x.ndim)]
        shape = (1, channels, *[1] * (x.ndim - 2))
        with torch.autocast("cpu", enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            count = wide.new_tensor([x.numel() // channels])
            total, count = OverAll.apply(torch.cat([wide.sum(axes), count])).split([channels, 1])
            mean = total / count
            centred = wide - mean.view(shape)
            variance = OverAll.apply(centred.square().sum(axes)) / count
            if self.track_running_stats:
                self.remember(mean.detach(), (variance * count / (count - 1)).detach())
            wide = centred * (variance + self.eps).rsqrt().view(shape)
            if self.affine:
                wide = wide * self.weight.view(shape) + self.bias.view(shape)
        return wide.to(x.dtype)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Any number of axes will do."""

    def remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class OverAll(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs. Only here, for `SyncBatchNorm`."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of any shape, the same on all."""
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        """The gradients that came to the processes, added up."""
        return OverAll.forward(context, gradient)


def synchronise(model: nn.Module, kind: str) -> None:
    """Let every batch norm of a model, a user's own too, see the batch of all devices.

    Parameters and statistics stay where they are, by the same names. Only here, as `SyncBatchNorm`.

    Args:
        model: changed in place.
        kind: of device, `cpu` or `gpu`.
    """
    synced = nn.SyncBatchNorm if kind == "gpu" else SyncBatchNorm
    for layer in model.modules():
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                vars(twin := synced(child.num_features)).update(vars(child))
                setattr(layer, name, twin)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al. 2016) over the last axis.

    torch's own, in float32 at least: autocast leaves it in bf16 on a CPU, and not on a GPU.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[…, features]` to the same."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return F.layer_norm(wide, self.normalized_shape, self.weight, self.bias, self.eps).to(x)
