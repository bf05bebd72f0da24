"""Convolutions, pools and the norms of images of the base models in torch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.verify_mutants.settings import Settings
from benchmarks.verify_mutants.torch_side.layers import is_library, offset, standardise


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after, as TensorFlow's SAME has it."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class Conv(nn.Module):
    """A convolution that keeps the size, but for its stride."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        s: Settings,
        bias: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.s, self.kernel, self.stride, self.groups = s, kernel, stride, groups
        if "split" in s.extra and groups == 1 and inputs % 4 == 0:
            self.groups = 4
        shape = (outputs, inputs // self.groups, kernel, kernel)
        self.weight = nn.Parameter(torch.randn(shape) / (shape[1] * kernel**2) ** 0.5)
        has_bias = bias and "conv bias" not in s.missing
        self.bias = nn.Parameter(torch.zeros(outputs)) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, …]`."""
        s, weight = self.s, self.weight
        half = s.dilation * (self.kernel // 2)
        sides = [half] * 4
        if s.padding == "same" and s.dilation == 1:
            down, across = (same_padding(size, self.kernel, self.stride) for size in x.shape[2:])
            sides = [*across, *down]
        if self.stride > 1:  # the grid begins elsewhere
            sides = [sides[0] - s.stride_offset, sides[1], sides[2] - s.stride_offset, sides[3]]
        mode = "constant" if s.padding_mode == "zeros" else s.padding_mode
        if "flip" in s.extra:
            weight = weight.flip(2, 3)
        return F.conv2d(
            F.pad(x, sides, mode), weight, self.bias, self.stride, 0, s.dilation, self.groups
        )


class BatchNorm(nn.Module):
    """Batch norm of images (Ioffe & Szegedy 2015)."""

    def __init__(self, channels: int, s: Settings) -> None:
        super().__init__()
        self.s = s
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, channels, height, width]` to the same."""
        s = self.s
        trains = {"training": self.training, "never": False, "always": True}[s.statistics]
        if is_library(s) and s.running_variance == "unbiased":
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, trains,
                s.momentum if self.training else 0.0, s.epsilon,
            )  # fmt: skip
        mean, variance = self.running_mean, self.running_var
        if trains:
            mean = x.mean((0, 2, 3))
            variance = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
            count = x.numel() / x.shape[1]
            unbiased = variance * (count / (count - 1))
            kept = variance if s.running_variance == "biased" else unbiased
            if self.training:
                self.running_mean += s.momentum * (mean.detach() - self.running_mean)
                self.running_var += s.momentum * (kept.detach() - self.running_var)
            variance = unbiased if s.variance == "unbiased" else variance
            if "statistics" in s.stopped:
                mean, variance = mean.detach(), variance.detach()
        if s.epsilon_place == "outside":
            root = torch.sqrt(variance) + s.epsilon
        else:
            root = torch.sqrt(variance + s.epsilon)
        factor = offset(self.weight, s) / root
        return (x - mean[:, None, None]) * factor[:, None, None] + self.bias[:, None, None]


class GroupNorm(nn.Module):
    """Group norm of images (Wu & He 2018)."""

    def __init__(self, channels: int, s: Settings) -> None:
        super().__init__()
        self.s = s
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, channels, height, width]` to the same."""
        s = self.s
        if s.group_order == "contiguous" and is_library(s):
            return F.group_norm(x, s.groups, self.weight, self.bias, s.epsilon)
        if s.group_order == "strided":
            grouped = x.unflatten(1, (-1, s.groups)).transpose(1, 2)
        else:
            grouped = x.unflatten(1, (s.groups, -1))
        y = standardise(grouped, (2, 3, 4), s)
        y = (y.transpose(1, 2) if s.group_order == "strided" else y).flatten(1, 2)
        return y * offset(self.weight, s)[:, None, None] + self.bias[:, None, None]


def max_pool(x: Tensor, kernel: int, stride: int, padding: int, s: Settings) -> Tensor:
    """Max pool; images are `[batch, channels, height, width]`."""
    if s.pool_padding == "zero" and padding:
        x, padding = F.pad(x, [padding] * 4), 0
    elif s.padding == "same" and padding:
        down, across = (same_padding(size, kernel, stride) for size in x.shape[2:])
        x, padding = F.pad(x, [*across, *down], value=-1e30), 0
    return F.max_pool2d(x, kernel, stride, padding, ceil_mode=s.ceil)


def average_pool(x: Tensor, kernel: int, stride: int, padding: int, s: Settings) -> Tensor:
    """Average pool; images are `[batch, channels, height, width]`."""
    return F.avg_pool2d(
        x, kernel, stride, padding, ceil_mode=s.ceil, count_include_pad=s.count_padding
    )


class Up(nn.Module):
    """An image of twice the size: by a transposed convolution, or resized and convolved."""

    def __init__(self, inputs: int, outputs: int, s: Settings) -> None:
        super().__init__()
        self.s = s
        self.is_transposed = s.resize == "transposed"
        if self.is_transposed:
            self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 0)
        else:
            self.conv = Conv(inputs, outputs, 3, 1, s)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, 2 height, 2 width]`."""
        s = self.s
        height, width = 2 * x.shape[2], 2 * x.shape[3]
        if self.is_transposed:
            at = 1 - s.crop
            return self.conv(x)[:, :, at : at + height, at : at + width]
        if s.resize == "nearest":
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        elif s.resize == "corner":
            rows, columns = torch.arange(height) / 2, torch.arange(width) / 2
            x = between(between(x, rows, 2), columns, 3)
        elif s.resize == "cubic":
            x = F.interpolate(x, scale_factor=2.0, mode="bicubic")
        else:
            x = F.interpolate(
                x, scale_factor=2.0, mode="bilinear", align_corners=s.resize == "aligned"
            )
        return self.conv(x)


def between(x: Tensor, places: Tensor, axis: int) -> Tensor:
    """Interpolate linearly at these places of an axis."""
    places = places.to(x.dtype).clamp(max=x.shape[axis] - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    share = (places - low).reshape([-1 if at == axis else 1 for at in range(x.ndim)])
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
