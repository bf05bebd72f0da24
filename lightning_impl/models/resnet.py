"""Residual networks (He et al. 2015, table 1), with torchvision's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.norms import BatchNorm
from pipeline.config.models import ResNetConfig, Stem


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

    The first convolution has the stride.
    """

    expansion = 1

    def __init__(self, inside: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.downsample = _shortcut(inside, channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inside, height, width]` to `[batch, channels, height / stride, width / stride]`."""
        around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + around)


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, and a shortcut (He et al. 2015, figure 5, right).

    The 3×3 convolution has the stride, as in torchvision; in the paper the first has it.
    """

    expansion = 4

    def __init__(self, inside: int, channels: int, stride: int) -> None:
        super().__init__()
        out = self.expansion * channels
        self.conv1 = nn.Conv2d(inside, channels, 1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = BatchNorm(out)
        self.downsample = _shortcut(inside, out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inside, height, width]` to `[batch, 4·channels, height / stride, width / stride]`."""
        around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + around)


def _shortcut(inside: int, channels: int, stride: int) -> nn.Module | None:
    """Return a 1×1 convolution (option B of He et al. 2015), or None for the identity."""
    if stride == 1 and inside == channels:
        return None
    return nn.Sequential(_PointwiseConvolution(inside, channels, stride), BatchNorm(channels))


# Block, and number of blocks in each stage.
STAGES: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A stem, four stages of blocks, global average pooling and a dense layer."""

    def __init__(self, config: ResNetConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.imagenet = config.stem is Stem.imagenet
        size, stride, padding = (7, 2, 3) if self.imagenet else (3, 1, 1)
        inside = config.width
        self.conv1 = nn.Conv2d(input_shape[2], inside, size, stride, padding, bias=False)
        self.bn1 = BatchNorm(inside)
        block, counts = STAGES[config.name]
        for stage, count in enumerate(counts):
            blocks, channels = [], config.width * 2**stage
            for index in range(count):
                blocks.append(block(inside, channels, 2 if stage and not index else 1))
                inside = block.expansion * channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inside, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` to `[batch, outputs]`."""
        x = F.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))
