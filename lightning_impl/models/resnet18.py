"""ResNet-18 (He et al. 2015, table 1), with torchvision's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.norms import BatchNorm
from pipeline.config import ResNet18Config, Stem


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a way around them (He et al. 2015, figure 5, left).

    Args:
        inside: channels that come in.
        channels: that go out.
        stride: of the first convolution. Where it is not 1, or channels change, the way around is a 1×1
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
            convolution = nn.Conv2d(inside, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, BatchNorm(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, inside, height, width]` to `[batch, channels, height / stride, width / stride]`."""
        around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + around)


class ResNet18(nn.Module):
    """A stem, four stages of two blocks, the mean over the image and a dense layer."""

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
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))
