"""ResNet-18 (He et al. 2015, table 1), with torchvision's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.norms import BatchNorm
from pipeline.config.models import ResNet18Config, Stem


class _PointwiseConvolution(nn.Conv2d):
    """A 1×1 convolution that slices its input in place of a stride.

    oneDNN's backward pass of such a convolution with a stride writes out of bounds below 8 channels in
    channels-last layout (torch 2.15, AVX-512).
    """

    def __init__(self, inside: int, channels: int, stride: int) -> None:
        super().__init__(inside, channels, 1, bias=False)
        self.step = stride

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`[batch, inside, height, width]` to `[batch, channels, height / stride, width / stride]`."""
        return super().forward(input[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2015, figure 5, left).

    The first convolution has the stride. If that is not 1, or the channels change, the shortcut is a 1×1
    convolution (option B there).
    """

    def __init__(self, inside: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.downsample = None
        if stride != 1 or inside != channels:
            convolution = _PointwiseConvolution(inside, channels, stride)
            self.downsample = nn.Sequential(convolution, BatchNorm(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inside, height, width]` to `[batch, channels, height / stride, width / stride]`."""
        around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + around)


class ResNet18(nn.Module):
    """A stem, four stages of two blocks, global average pooling and a dense layer."""

    def __init__(self, config: ResNet18Config, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.imagenet = config.stem is Stem.imagenet
        size, stride, padding = (7, 2, 3) if self.imagenet else (3, 1, 1)
        inside = config.width
        self.conv1 = nn.Conv2d(input_shape[2], inside, size, stride, padding, bias=False)
        self.bn1 = BatchNorm(inside)
        for stage in range(1, 5):
            channels, stride = config.width * 2 ** (stage - 1), 1 if stage == 1 else 2
            blocks = BasicBlock(inside, channels, stride), BasicBlock(channels, channels, 1)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            inside = channels
        self.fc = nn.Linear(inside, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` to `[batch, outputs]`."""
        x = F.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))
