"""Models of several inputs, whose outputs are dictionaries, tuples and dataclasses; and a loss of them."""

from dataclasses import dataclass
from typing import Any

import flax.linen
import torch


@dataclass
class Found:
    """Outputs of a model as a plain dataclass."""

    means: Any
    hidden: dict
    loss: Any = None


class TorchTwo(torch.nn.Module):
    """A linear layer on each input; `kind` is that of the outputs."""

    def __init__(self, input_shape, outputs, inputs, kind="found") -> None:
        super().__init__()
        assert input_shape == next(iter(inputs.values()))
        self.kind = kind
        self.first, self.second = (torch.nn.Linear(n, outputs) for (n,) in inputs.values())

    def forward(self, a, b):
        hidden = self.first(a), self.second(b)
        return as_kind(self.kind, hidden[0] + hidden[1], hidden[0])


class FlaxTwo(flax.linen.Module):
    """The Flax twin."""

    input_shape: tuple
    outputs: int
    inputs: dict
    kind: str = "found"

    @flax.linen.compact
    def __call__(self, a, b):
        assert [*self.inputs] == ["a", "b"]
        first = flax.linen.Dense(self.outputs, name="first")(a)
        second = flax.linen.Dense(self.outputs, name="second")(b)
        return as_kind(self.kind, first + second, first)


def as_kind(kind, result, hidden):
    """The same arrays in another structure."""
    kinds = {
        "found": Found(result, {"hidden": hidden}),
        "logits": {"hidden": hidden, "logits": result},
        "tuple": (hidden, result),
        "one": (result,),
    }
    return kinds[kind]


def squared(outputs, batch):
    """A loss of the dataclass, as a mean over the batch; of either framework."""
    error = outputs.means - batch["target"]
    return (error**2).mean() + 0.1 * (outputs.hidden["hidden"] ** 2).mean()
