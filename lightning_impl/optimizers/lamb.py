"""LAMB: Adam's updates, each scaled to the norm of its weights."""

from typing import Any

import torch
from torch import Tensor

from lightning_impl.optimizers.adam import common
from lightning_impl.optimizers.own import Own, pieces
from lightning_impl.sharding import part, whole
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
        weights = _norms(parameters, group["parts"])
        updates = _norms(directions, group["parts"])
        ratios = [
            torch.where((weight > 0) & (update > 0), weight / update, 1.0)
            for weight, update in zip(weights, updates, strict=True)
        ]
        torch._foreach_mul_(directions, list(map(_spread, ratios, directions)))
        torch._foreach_add_(parameters, directions, alpha=-group["lr"])


def _norms(tensors: list[Tensor], parts: int) -> list[Tensor]:
    """The norm of each tensor; of a tensor in several parts the norm of each, `[parts]`."""
    if parts == 1:
        return [whole(norm) for norm in torch._foreach_norm(tensors)]
    return [torch.stack(torch._foreach_norm(pieces(whole(tensor), parts))) for tensor in tensors]


def _spread(ratios: Tensor, tensor: Tensor) -> Tensor:
    """The factor on each row of a tensor: one for all, or that of its part."""
    if not ratios.ndim:
        return ratios
    rows = ratios.repeat_interleave(len(tensor) // len(ratios))
    return part(rows.view(-1, *[1] * (tensor.ndim - 1)), tensor)
