"""Lion: the sign of a momentum."""

from typing import Any

import torch
from torch import Tensor

from lightning_impl.optimizers.own import Own
from pipeline.config import LionConfig


def lion(config: LionConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms")."""
    return Lion(
        parameters,
        lr=config.lr,
        betas=tuple(config.betas),
        weight_decay=config.weight_decay,
        **options,
    )


class Lion(Own):
    """Chen et al. 2023, algorithm 2. torch has none."""

    def update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> None:
        """One update of the parameters of a group."""
        (beta1, beta2), rate = group["betas"], group["lr"]
        averages = self.slot("exp_avg", parameters)
        directions = torch._foreach_lerp(averages, gradients, 1 - beta1)
        torch._foreach_sign_(directions)
        torch._foreach_lerp_(averages, gradients, 1 - beta2)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_add_(parameters, directions, alpha=-rate)
