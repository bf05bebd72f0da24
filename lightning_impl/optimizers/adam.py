"""Adam and its variants: first and second moments of the gradient, with bias correction."""

from math import exp, expm1, log

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_impl.optimizers.base import BaseOptimizer, Fused, Group, Groups, settings
from lightning_impl.sharding import part, whole
from pipeline.config import optimizers


def adam(config: optimizers.AdamConfig, groups: Groups, fused: Fused = None) -> Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    return torch.optim.Adam(groups, **settings(config), fused=fused)


def adamw(config: optimizers.AdamWConfig, groups: Groups, fused: Fused = None) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(groups, **settings(config), fused=fused)


def amsgrad(config: optimizers.AMSGradConfig, groups: Groups, fused: Fused = None) -> Optimizer:
    """Adam with the maximum of past second moments (Reddi, Kale & Kumar 2018)."""
    return torch.optim.Adam(groups, **settings(config), amsgrad=True, fused=fused)


def adamax(config: optimizers.AdamaxConfig, groups: Groups) -> Optimizer:
    """Adam with the infinity norm instead of the second moment (Kingma & Ba 2015, algorithm 2)."""
    return torch.optim.Adamax(groups, **settings(config))


def nadam(config: optimizers.NAdamConfig, groups: Groups) -> Optimizer:
    """Adam with Nesterov's momentum (Dozat 2016)."""
    return _NAdam(groups, **settings(config))


def radam(config: optimizers.RAdamConfig, groups: Groups) -> Optimizer:
    """Adam with a rectified adaptive learning rate (Liu et al. 2020)."""
    return torch.optim.RAdam(groups, **settings(config))


def lamb(config: optimizers.LambConfig, groups: Groups) -> Optimizer:
    """LAMB: Adam's updates, each scaled to the norm of its weights (You et al. 2020)."""
    return _Lamb(groups, **settings(config))


class _NAdam(BaseOptimizer):
    """torch.optim.NAdam (Dozat 2016, algorithm 8) with an exact product of momenta.

    torch stores that product for each parameter as a float32 tensor, which costs 1e-7 in float64 and which
    a checkpoint of the other backend lacks. Here it is computed from the step.
    """

    def update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        rate, decay, beta1 = group["lr"], group["weight_decay"], group["betas"][0]
        if decay and group["decoupled_weight_decay"]:
            torch._foreach_mul_(parameters, 1 - rate * decay)
        elif decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
        first, roots, steps = self.adam_moments(group, parameters, gradients)
        now, after = [], []
        for step in steps:
            mu = momentum(step, beta1, group["momentum_decay"])
            mu_next = momentum(step + 1, beta1, group["momentum_decay"])
            product = momentum_product(step, beta1, group["momentum_decay"])
            now.append(-rate * (1 - mu) / (1 - product))
            after.append(-rate * mu_next / (1 - product * mu_next))
        torch._foreach_addcdiv_(parameters, gradients, roots, now)
        torch._foreach_addcdiv_(parameters, first, roots, after)


class _Lamb(BaseOptimizer):
    """You et al. 2020, algorithm 2, with φ(z) = z; torch has none. A norm of zero scales nothing."""

    def update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
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
    """Norm of each tensor; for a tensor of several parts the norm of each part, `[parts]`."""
    if parts == 1:
        return [whole(norm) for norm in torch._foreach_norm(tensors)]
    return [torch.stack(torch._foreach_norm(whole(tensor).chunk(parts))) for tensor in tensors]


def _spread(ratios: Tensor, tensor: Tensor) -> Tensor:
    """Factor for each row of a tensor: one for all, or its part's."""
    if not ratios.ndim:
        return ratios
    rows = ratios.repeat_interleave(len(tensor) // len(ratios))
    return part(rows.view(-1, *[1] * (tensor.ndim - 1)), tensor)


def momentum(step: float, beta: float, decay: float) -> float:
    """μₜ = β (1 - 0.96^(t·ψ) / 2) (Dozat 2016, section 3.1)."""
    return beta * (1 - 0.5 * 0.96 ** (step * decay))


def momentum_product(step: float, beta: float, decay: float) -> float:
    """μ₁ μ₂ … μₜ as a function of t alone.

    With q = 0.96^ψ its logarithm is t log β + Σᵢ log(1 - qⁱ/2), and log(1 - x) = -Σₖ xᵏ/k makes that
    a sum of geometric series: -Σₖ (1 - qᵏᵗ) / (q⁻ᵏ - 1) / (k 2ᵏ). Fifty terms give double precision.
    """
    if not beta:
        return 0.0
    if not decay:
        return (beta / 2) ** step
    rate = -decay * log(0.96)
    terms = (expm1(-k * rate * step) / expm1(k * rate) / (k * 2**k) for k in range(1, 51))
    return exp(step * log(beta) + sum(terms))
