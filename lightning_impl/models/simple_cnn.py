"""The smallest convolutional network: one convolution, one pool, one dense layer."""

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config.models import SimpleCNNConfig
from pipeline.training.model_checks import feature_map


class SimpleCNN(nn.Module):
    """A 3×3 convolution with relu, a 2×2 max-pool and a dense layer."""

    def __init__(self, config: SimpleCNNConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        height, width = feature_map(config, input_shape)
        self.conv = nn.Conv2d(input_shape[2], config.channels, 3, padding=1)
        self.fc = nn.Linear(config.channels * height * width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` to `[batch, outputs]`."""
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.fc(x.flatten(1))
