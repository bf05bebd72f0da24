"""LAMB: Adam's updates, each scaled to the norm of its weights."""

from typing import Any

import torch
from torch import Tensor

from lightning_impl.optimizers.adam import common
from lightning_impl.optimizers.own import Own, pieces
from pipeline.config import LambConfig


def lamb(config: LambConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """LAMB (You et al. 2020, "Large Batch Optimization for Deep Learning")."""
    return Lamb(parameters, **common(config), **options)


class Lamb(Own):
    """You et al. 2020, algorithm 2, with φ(z) = z; a norm of zero scales nothing. torch has none."""

    def update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> None:
        """One update of the parameters of a group."""
        directions = self.adam_directions(group, parameters, gradients)
        torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
        weights = torch._foreach_norm(pieces(parameters, group["parts"]))
        updates = pieces(directions, group["parts"])
        norms = torch._foreach_norm(updates)
        ratios = [
            torch.where((weight > 0) & (norm > 0), weight / norm, 1.0)
            for weight, norm in zip(weights, norms, strict=True)
        ]
        torch._foreach_mul_(updates, ratios)
        torch._foreach_add_(parameters, directions, alpha=-group["lr"])
