"""The same small network in torch and in Flax: the same names, so each takes the other's weights."""

import flax.linen
import jax
import torch


class TorchNet(torch.nn.Module):
    """Two convolutions, and a linear head over their mean; images are [batch, channels, height, width]."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(input_shape[-1], width, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(width, 2 * width, 3, padding=1)
        self.head = torch.nn.Linear(2 * width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).relu()
        x = self.conv2(x).relu()
        return self.head(x.mean((2, 3)))


class FlaxNet(flax.linen.Module):
    """Its twin; images are [batch, height, width, channels]."""

    input_shape: tuple[int, ...]
    outputs: int
    width: int = 16

    @flax.linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = flax.linen.relu(flax.linen.Conv(self.width, (3, 3), name="conv1")(x))
        x = flax.linen.relu(flax.linen.Conv(2 * self.width, (3, 3), name="conv2")(x))
        return flax.linen.Dense(self.outputs, name="head")(x.mean((1, 2)))
