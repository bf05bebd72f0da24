"""LeNet-5's architecture: two convolutions with max-pools, then dense layers (LeCun et al. 1998)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.layers import ACTIVATIONS
from pipeline.config.models import CNNConfig
from pipeline.training.model_checks import feature_map, input_padding


class CNN(nn.Module):
    """Two square convolutions, each with a 2×2 max-pool, and three dense layers."""

    def __init__(self, config: CNNConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        first, second = config.channels
        size, padding = config.kernel_size, config.padding
        height, width = feature_map(config, input_shape)
        widths = [second * height * width, *config.hidden, outputs]
        rows, columns = input_padding(config, input_shape)
        self.margins = (*columns, *rows)
        self.conv1 = nn.Conv2d(input_shape[2], first, size, padding=padding)
        self.conv2 = nn.Conv2d(first, second, size, padding=padding)
        self.fc = nn.ModuleList(nn.Linear(inside, out) for inside, out in pairwise(widths))
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` to `[batch, outputs]`."""
        x = F.pad(x, self.margins) if any(self.margins) else x
        x = F.max_pool2d(self.activation(self.conv1(x)), 2)
        x = F.max_pool2d(self.activation(self.conv2(x)), 2)
        x = x.flatten(1)
        for layer in self.fc[:-1]:
            x = self.activation(layer(x))
        return self.fc[-1](x)
