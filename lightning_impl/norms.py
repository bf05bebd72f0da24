"""Normalisation as torch defines it: epsilon, running variance, two passes, and never in half precision."""

import torch
import torch.nn.functional as F
from torch import nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the second, the channels.

    torch's own: of a batch in bf16 it takes the statistics in float32, and keeps the unbiased variance.
    """


class LayerNorm(nn.LayerNorm):
    """Layer normalisation (Ba et al. 2016) over the last axis.

    torch's own, in float32 at least: autocast leaves it in bf16 on a CPU, and not on a GPU.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[…, features]` to the same."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return F.layer_norm(wide, self.normalized_shape, self.weight, self.bias, self.eps).to(x)
