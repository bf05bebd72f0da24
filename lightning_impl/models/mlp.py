"""Dense layers of any width, with an activation between them."""

from itertools import pairwise
from math import prod

import torch
from torch import nn

from lightning_impl.layers import ACTIVATIONS
from pipeline.config.models import MLPConfig


class MLP(nn.Module):
    """A multi-layer perceptron on the flattened sample."""

    def __init__(self, config: MLPConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        widths = [prod(input_shape), *config.hidden, outputs]
        self.layers = nn.ModuleList(nn.Linear(inside, out) for inside, out in pairwise(widths))
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` or `[batch, features]` to `[batch, outputs]`."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
