"""Normalisation by torch's definition: epsilon, running variance, two passes, never in half precision."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import FunctionCtx


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the second, the channels.

    torch's own: it computes the statistics of a bf16 batch in float32, and keeps the unbiased variance.
    """


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batch of all devices.

    torch's own does not support CPUs, and waits for the GPU three times a step. Only here: XLA sees the batch
    of all devices as one array.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override-param-name] `input`
        """`[batch, channels, …]` to the same; statistics of all devices' batches in training."""
        if not self.training:
            return super().forward(x)
        channels, axes = x.shape[1], [0, *range(2, x.ndim)]
        shape = (1, channels, *[1] * (x.ndim - 2))
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            count = wide.new_full((1,), x.numel() // channels)
            total, count = _AllReduceSum.apply(torch.cat([wide.sum(axes), count])).split(
                [channels, 1]
            )
            mean = total / count
            centred = wide - mean.view(shape)
            variance = _AllReduceSum.apply(centred.square().sum(axes)) / count
            if self.track_running_stats:
                self.remember(mean.detach(), (variance * count / (count - 1)).detach())
            wide = centred * (variance + self.eps).rsqrt().view(shape)
            if self.affine:
                wide = wide * self.weight.view(shape) + self.bias.view(shape)
        return wide.to(x.dtype)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Accept any number of axes."""

    def remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Update the running statistics with those of a batch."""
        assert isinstance(self.num_batches_tracked, torch.Tensor)
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class _AllReduceSum(torch.autograd.Function):
    """All-reduce with a gradient: the sum of all processes' gradients. Only here, for `SyncBatchNorm`."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> torch.Tensor:
        return _AllReduceSum.forward(ctx, *gradients)


def convert_sync_batchnorm(model: nn.Module) -> None:
    """Replace every batch norm of a model, including a user's own, by one over all devices, in place.

    Parameters and statistics keep their names. Only here, as `SyncBatchNorm`.
    """
    for layer in model.modules():
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                vars(twin := SyncBatchNorm(child.num_features)).update(vars(child))
                setattr(layer, name, twin)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al. 2016) over the last axis, in float32 at least.

    Under autocast torch's own runs in bf16 on a CPU, but not on a GPU.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override-param-name] `input`
        """`[…, features]` to the same."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return F.layer_norm(wide, self.normalized_shape, self.weight, self.bias, self.eps).to(x)


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) over groups of channels and all places, in float32 at least."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override-param-name] `input`
        """`[batch, channels, …]` to the same."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return F.group_norm(wide, self.num_groups, self.weight, self.bias, self.eps).to(x)
