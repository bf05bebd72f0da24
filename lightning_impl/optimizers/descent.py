"""Gradient descent, and variants that use only squared gradients or the sign of a momentum."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_impl.optimizers.base import BaseOptimizer, Fused, Group, Groups, settings
from pipeline.config import optimizers


def sgd(config: optimizers.SGDConfig, groups: Groups, fused: Fused = None) -> Optimizer:
    """Gradient descent with momentum; weight decay is added to the gradient."""
    return torch.optim.SGD(groups, **settings(config), fused=fused)


def rmsprop(config: optimizers.RMSpropConfig, groups: Groups) -> Optimizer:
    """RMSprop (Hinton 2012, lecture 6e); with `centered` as in Graves 2013."""
    return torch.optim.RMSprop(groups, **settings(config))


def adagrad(config: optimizers.AdagradConfig, groups: Groups, fused: Fused = None) -> Optimizer:
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    return torch.optim.Adagrad(groups, **settings(config), fused=fused)


def adadelta(config: optimizers.AdadeltaConfig, groups: Groups) -> Optimizer:
    """Adadelta (Zeiler 2012)."""
    return torch.optim.Adadelta(groups, **settings(config))


def lion(config: optimizers.LionConfig, groups: Groups) -> Optimizer:
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms")."""
    return _Lion(groups, **settings(config))


class _Lion(BaseOptimizer):
    """Chen et al. 2023, algorithm 2; torch has none."""

    def update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        (beta1, beta2), rate = group["betas"], group["lr"]
        averages = self.slot("exp_avg", parameters)
        directions = torch._foreach_lerp(averages, gradients, 1 - beta1)
        torch._foreach_sign_(directions)
        torch._foreach_lerp_(averages, gradients, 1 - beta2)
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_add_(parameters, directions, alpha=-rate)
