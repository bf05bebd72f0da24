"""Muon: orthogonal updates for the matrices of hidden layers, AdamW for the rest."""

import torch
from torch import Tensor

from lightning_impl.optimizers.base import BaseOptimizer, Group, Groups, settings
from lightning_impl.sharding import part, whole
from pipeline.config.optimizers import AdjustLR, MuonConfig

# Coefficients of a X + b XXᵀX + c (XXᵀ)²X, steep at zero (Jordan 2024, github.com/KellerJordan/Muon).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def muon(config: MuonConfig, groups: Groups) -> torch.optim.Optimizer:
    """Muon (Jordan et al. 2024; Liu et al. 2025, "Muon is Scalable for LLM Training")."""
    # The name: torch loads no enum from a checkpoint.
    return _Muon(groups, **settings(config) | {"adjust_lr_fn": config.adjust_lr_fn.name})


class _Muon(BaseOptimizer):
    """Muon for parameter groups with `matrix`, AdamW for the others.

    torch.optim.Muon takes matrices only and computes in bfloat16, which leaves three digits. Here
    convolutions count as matrices `[out, in × height × width]`, and the dtype is the parameter's.
    """

    def update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        rate = group["lr"]
        if not group["matrix"]:
            directions = self.adam_directions(group, parameters, gradients)
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
            torch._foreach_add_(parameters, directions, alpha=-rate)
            return
        averages = self.slot("momentum_buffer", parameters)
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        if group["nesterov"]:
            averages = torch._foreach_lerp(gradients, averages, group["momentum"])
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        adjust = AdjustLR[group["adjust_lr_fn"]]
        for parameter, average in zip(parameters, averages, strict=True):
            # With fsdp every device computes the whole matrix, and keeps its shard of the result.
            matrices = [
                orthogonal(piece.reshape(len(piece), -1), group["ns_steps"])
                for piece in whole(average).chunk(group["parts"])
            ]
            direction = part(torch.cat(matrices).reshape(parameter.shape), parameter)
            parameter.add_(direction, alpha=-rate * adjust.factor(*matrices[0].shape))


def orthogonal(matrix: Tensor, steps: int) -> Tensor:
    """Approximate UVᵀ of a matrix UΣVᵀ: its singular values end between 0.7 and 1.2.

    Newton-Schulz iterations (Jordan 2024) in the matrix's own dtype.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
