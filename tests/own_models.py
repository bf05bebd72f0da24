"""The same small network in torch and Flax, as a user brings it with `model=own`."""

import flax.linen
import torch


class TorchNet(torch.nn.Module):
    """A linear layer, self-attention over four parts of its outputs, and a linear head."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 16) -> None:
        super().__init__()
        features = input_shape[0] * input_shape[1] * input_shape[2]
        self.scale = torch.nn.Parameter(torch.ones(1, width))
        self.stem = torch.nn.Linear(features, 4 * width)
        self.mix = torch.nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = torch.nn.Linear(width, outputs)
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.permute(0, 2, 3, 1).flatten(1)).unflatten(1, (4, self.width)) * self.scale
        return self.head(self.mix(x, x, x, need_weights=False)[0].mean(1))


class FlaxNet(flax.linen.Module):
    """The Flax twin, whose call takes no `train`."""

    input_shape: tuple[int, ...]
    outputs: int
    width: int = 16

    @flax.linen.compact
    def __call__(self, x):
        scale = self.param("scale", flax.linen.initializers.ones, (1, self.width))
        x = flax.linen.Dense(4 * self.width, name="stem")(x.reshape(len(x), -1))
        x = x.reshape(-1, 4, self.width) * scale
        x = flax.linen.MultiHeadDotProductAttention(2, name="mix")(x)
        return flax.linen.Dense(self.outputs, name="head")(x.mean(1))
