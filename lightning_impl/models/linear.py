"""A linear map of the flattened sample."""

from math import prod

import torch
from torch import nn

from pipeline.config.models import LinearConfig


class Linear(nn.Module):
    """Logits or predictions as a linear function of the input."""

    def __init__(self, config: LinearConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(prod(input_shape), outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` or `[batch, features]` to `[batch, outputs]`."""
        return self.fc(x.flatten(1))
