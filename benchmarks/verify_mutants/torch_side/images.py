"""Models of images in torch: cnn, resnet, unet, convnext, mixer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.verify_mutants.settings import CLASSES, WIDTH, Plan, Settings
from benchmarks.verify_mutants.torch_side.convolution import (
    BatchNorm,
    Conv,
    GroupNorm,
    Up,
    average_pool,
    max_pool,
)
from benchmarks.verify_mutants.torch_side.layers import (
    Dense,
    Mlp,
    Norm,
    activate,
    cross_entropy,
    drop,
    drop_path,
    stop,
)


def pooled(x: Tensor, s: Settings) -> Tensor:
    """One vector of an image `[batch, channels, height, width]`."""
    if s.pool == "flatten":
        return (x.permute(0, 2, 3, 1) if s.layout == "channels last" else x).flatten(1)
    results = {"mean": lambda: x.mean((2, 3)), "sum": lambda: x.sum((2, 3)),
               "max": lambda: x.amax((2, 3))}  # fmt: skip
    return results[s.pool]()


class Cnn(nn.Module):
    """Two convolutions with batch norm and pools, and a classifier."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.conv1 = Conv(3, 8, 3, 1, plan.block(0))
        self.bn1 = BatchNorm(8, plan.block(0))
        self.conv2 = Conv(8, 12, 3, 2, plan.block(1))
        self.bn2 = BatchNorm(12, plan.block(1))
        self.head = nn.Linear(12 * (9 if s.pool == "flatten" else 1), CLASSES)
        self.last = plan.block(1)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, 3, height, width]` to logits."""
        s = self.s
        x = self._stage(x, self.conv1, self.bn1)
        x = max_pool(x, 2, 2, 0, s) if s.image_pool == "max" else average_pool(x, 2, 2, 0, s)
        x = self._stage(x, self.conv2, self.bn2)
        x = average_pool(x, 3, 1, 1, s)
        return self.head(drop(pooled(x, s), "head", self.last, self.training))

    def _stage(self, x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
        s = norm.s
        x = conv(x)
        if s.order == "activation first":
            return norm(activate(x, s))
        return drop(activate(norm(x), s), "stage", s, self.training)


class BasicBlock(nn.Module):
    """Two convolutions with a residual connection (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, s: Settings) -> None:
        super().__init__()
        self.s = s
        first, second = (1, stride) if s.order == "stride last" else (stride, 1)
        self.conv1 = Conv(inputs, outputs, 3, first, s, bias=False)
        self.bn1 = BatchNorm(outputs, s)
        self.conv2 = Conv(outputs, outputs, 3, second, s, bias=False)
        self.bn2 = BatchNorm(outputs, s)
        self.has_shortcut = stride > 1 or inputs != outputs
        if self.has_shortcut:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_bn = BatchNorm(outputs, s)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, …]`."""
        s = self.s
        y = self.bn2(self.conv2(activate(self.bn1(self.conv1(x)), s)))
        y = stop(y, "branch", s)
        if self.has_shortcut:
            x = self.shortcut_bn(self.shortcut(x))
        if "residual" in s.missing:
            return activate(y, s)
        x = s.residual_factor * stop(x, "residual", s)
        return activate(y, s) + x if s.order == "sum last" else activate(y + x, s)


class Resnet(nn.Module):
    """A residual network of two blocks."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.conv1 = Conv(3, 8, 3, 1, s, bias=False)
        self.bn1 = BatchNorm(8, s)
        self.layers = nn.ModuleList(
            [BasicBlock(8, 8, 1, plan.block(0)), BasicBlock(8, 12, 2, plan.block(1))]
        )
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Images `[batch, 3, height, width]` and labels to logits and loss."""
        s = self.s
        x = activate(self.bn1(self.conv1(x)), s)
        x = max_pool(x, 3, 2, 1, s)
        for block in self.layers:
            x = block(x)
        logits = self.fc(stop(pooled(x, s), "pooled", s))
        return {"logits": logits, "loss": cross_entropy(logits, labels, s)}


class ConvNorm(nn.Module):
    """A convolution, group norm and an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, s: Settings) -> None:
        super().__init__()
        self.s = s
        self.conv = Conv(inputs, outputs, 3, stride, s)
        self.norm = GroupNorm(outputs, s)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, …]`."""
        return drop(activate(self.norm(self.conv(x)), self.s), "stage", self.s, self.training)


class Unet(nn.Module):
    """An image to an image, with a skip connection (Ronneberger et al. 2015)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.down1 = ConvNorm(3, 8, 1, plan.block(0))
        self.down2 = ConvNorm(8, 12, 2, plan.block(1))
        self.up = Up(12, 8, s)
        self.up1 = ConvNorm(16, 8, 1, s)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, 3, height, width]` to the same."""
        s = self.s
        skip = self.down1(x)
        y = self.up(self.down2(skip))
        skip = stop(skip, "skip", s)
        pair = [skip, y] if s.order == "skip first" else [y, skip]
        return self.out(self.up1(torch.cat(pair, 1)))


class ConvNextBlock(nn.Module):
    """A depthwise convolution and a multilayer perceptron (Liu et al. 2022)."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.s = s
        self.dwconv = Conv(WIDTH, WIDTH, 3, 1, s, groups=WIDTH)
        self.norm = Norm(WIDTH, s)
        self.mlp = Mlp(s)
        self.gamma = nn.Parameter(
            torch.ones(WIDTH, 1, 1) if s.shapes == "unit" else torch.ones(WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, channels, height, width]` to the same."""
        s = self.s
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.mlp(y if "norm" in s.missing else self.norm(y))
        if "layer scale" not in s.missing:
            y = y * self.gamma.flatten()
        y = stop(drop_path(y, s, self.training), "branch", s).permute(0, 3, 1, 2)
        return y if "residual" in s.missing else s.residual_factor * x + y


class ConvNext(nn.Module):
    """A stem, two blocks and a classifier."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.stem = nn.Conv2d(3, WIDTH, 2, 2)
        self.layers = nn.ModuleList([ConvNextBlock(plan.block(i)) for i in range(2)])
        self.norm = Norm(WIDTH, s)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, 3, height, width]` to logits."""
        x = self.stem(x)
        for block in self.layers:
            x = block(x)
        y = pooled(x, self.s)
        return self.head(y if "final norm" in self.s.missing else self.norm(y))


class MixerBlock(nn.Module):
    """Dense layers over the patches, then over the channels (Tolstikhin et al. 2021)."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.s = s
        self.norm1 = Norm(WIDTH, s)
        self.token_mixing = Mlp(s, 4, 12)
        self.norm2 = Norm(WIDTH, s)
        self.channel_mixing = Mlp(s)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, patches, width]` to the same."""
        y = self.token_mixing(self._normed(x, self.norm1).transpose(1, 2)).transpose(1, 2)
        x = self._sum(x, y)
        return self._sum(x, self.channel_mixing(self._normed(x, self.norm2)))

    def _normed(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.s.norm_place == "pre" else x

    def _sum(self, x: Tensor, y: Tensor) -> Tensor:
        s = self.s
        y = stop(drop(y, "branch", s, self.training), "branch", s)
        return y if "residual" in s.missing else s.residual_factor * x + y


class Mixer(nn.Module):
    """Patches, two blocks and a classifier."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.embed = Dense(48, WIDTH, s)
        self.layers = nn.ModuleList([MixerBlock(plan.block(i)) for i in range(2)])
        self.norm = Norm(WIDTH, s)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, 3, 8, 8]` to logits."""
        patches = F.unfold(x, 4, stride=4).transpose(1, 2)  # channel, row, column
        x = self.embed(patches)
        for block in self.layers:
            x = block(x)
        x = x if "final norm" in self.s.missing else self.norm(x)
        return self.head(x.sum(1) if self.s.pool == "sum" else x.mean(1))
