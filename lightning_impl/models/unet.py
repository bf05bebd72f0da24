"""A U-Net (Ronneberger et al. 2015) with the residual blocks of DDPM (Ho et al. 2020)."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.norms import GroupNorm
from lightning_impl.randomness import Dropout
from pipeline.config.models import UNetConfig
from pipeline.training.model_checks import frequencies


class Time(nn.Module):
    """Embedding of a whole number: sines and cosines (Vaswani et al. 2017), and two dense layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("frequencies", torch.tensor(frequencies(width)), persistent=False)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, 4 * width)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """`[batch]` to `[batch, 4·width]`."""
        angles = time[:, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)[:, : self.width]
        return self.fc2(F.silu(self.fc1(waves)))


class Block(nn.Module):
    """Two 3×3 convolutions, each after a group norm, and a shortcut; the time is added between them."""

    def __init__(self, config: UNetConfig, inside: int, channels: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm(config.groups, inside)
        self.conv1 = nn.Conv2d(inside, channels, 3, padding=1)
        self.time = nn.Linear(4 * config.width, channels) if config.time else None
        self.norm2 = GroupNorm(config.groups, channels)
        self.dropout = Dropout(config.dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(inside, channels, 1) if inside != channels else None

    def forward(self, x: torch.Tensor, time: torch.Tensor | None) -> torch.Tensor:
        """`[batch, inside, height, width]` and an embedding to `[batch, channels, height, width]`."""
        y = self.conv1(F.silu(self.norm1(x)))
        if self.time is not None and time is not None:
            y = y + self.time(F.silu(time))[:, :, None, None]
        y = F.silu(self.norm2(y))
        y = self.dropout(y.movedim(1, -1)).movedim(-1, 1)  # masks are drawn channels last
        return self.conv2(y) + (x if self.shortcut is None else self.shortcut(x))


class UNet(nn.Module):
    """Levels of half the size each, down and up again; each hands its maps to its other side."""

    def __init__(self, config: UNetConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        *levels, last = (config.width * 2**level for level in range(config.depth + 1))
        self.time = Time(config.width) if config.time else None
        self.stem = nn.Conv2d(input_shape[2], config.width, 3, padding=1)
        self.down, self.pool = nn.ModuleList(), nn.ModuleList()
        inside = config.width
        for channels in levels:
            self.down.append(Block(config, inside, channels))
            self.pool.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
            inside = channels
        self.middle = Block(config, inside, last)
        self.rise = nn.ModuleList(nn.Conv2d(2 * c, c, 3, padding=1) for c in levels)
        self.up = nn.ModuleList(Block(config, 2 * c, c) for c in levels)
        self.norm = GroupNorm(config.groups, config.width)
        self.head = nn.Conv2d(config.width, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor | None = None) -> torch.Tensor:
        """`[batch, channels, height, width]`, and `[batch]`, to `[batch, outputs, height, width]`."""
        embedding = self.time(time) if self.time is not None else None
        x, kept = self.stem(x), []
        for block, pool in zip(self.down, self.pool, strict=True):
            kept.append(block(x, embedding))
            x = pool(kept[-1])
        x = self.middle(x, embedding)
        for rise, block, other in zip(self.rise[::-1], self.up[::-1], kept[::-1], strict=True):
            x = rise(F.interpolate(x, scale_factor=2))
            x = block(torch.cat([x, other], dim=1), embedding)
        return self.head(F.silu(self.norm(x)))
