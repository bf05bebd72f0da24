"""Adam and its kin: a first and a second moment of the gradient, corrected for their bias."""

from math import exp, expm1, log
from typing import Any

import torch
from torch import Tensor

from lightning_impl.optimizers.own import Own
from pipeline.config import (
    AdamaxConfig,
    AdamConfig,
    AdamWConfig,
    AMSGradConfig,
    NAdamConfig,
    RAdamConfig,
)


def adam(config: AdamConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    return torch.optim.Adam(parameters, **common(config), **options)


def adamw(config: AdamWConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(parameters, **common(config), **options)


def amsgrad(config: AMSGradConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam with the largest second moment so far (Reddi, Kale & Kumar 2018)."""
    options |= {"amsgrad": True, "decoupled_weight_decay": config.decoupled_weight_decay}
    return torch.optim.Adam(parameters, **common(config), **options)


def adamax(config: AdamaxConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam with the largest gradient as second moment (Kingma & Ba 2015, algorithm 2)."""
    return torch.optim.Adamax(parameters, **common(config), **options)


def nadam(config: NAdamConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam with Nesterov's momentum (Dozat 2016)."""
    return NAdam(
        parameters,
        **common(config),
        momentum_decay=config.momentum_decay,
        decoupled_weight_decay=config.decoupled_weight_decay,
        **options,
    )


def radam(config: RAdamConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adam with a rectified second moment (Liu et al. 2020)."""
    options |= {"decoupled_weight_decay": config.decoupled_weight_decay}
    return torch.optim.RAdam(parameters, **common(config), **options)


class NAdam(Own):
    """torch.optim.NAdam, but for the product of its momenta.

    torch keeps that product as a float32 tensor of each parameter, which costs 1e-7 in float64, and
    which a checkpoint of the other backend lacks. Here it follows from the step.
    """

    def update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> None:
        """One update of the parameters of a group (Dozat 2016, algorithm 8)."""
        rate, decay, beta1 = group["lr"], group["weight_decay"], group["betas"][0]
        if decay and group["decoupled_weight_decay"]:
            torch._foreach_mul_(parameters, 1 - rate * decay)
        elif decay:
            gradients = torch._foreach_add(gradients, parameters, alpha=decay)
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


def momentum(step: float, beta: float, decay: float) -> float:
    """μₜ = β (1 - 0.96^(t·ψ) / 2) (Dozat 2016, section 3.1)."""
    return beta * (1 - 0.5 * 0.96 ** (step * decay))


def momentum_product(step: float, beta: float, decay: float) -> float:
    """μ₁ μ₂ … μₜ as a function of t alone.

    With q = 0.96^ψ its logarithm is t log β + Σᵢ log(1 - qⁱ/2), and log(1 - x) = -Σₖ xᵏ/k makes that
    a sum of geometric series: -Σₖ (1 - qᵏᵗ) / (q⁻ᵏ - 1) / (k 2ᵏ). Fifty terms have all of a double's
    digits.
    """
    if not beta:
        return 0.0
    if not decay:
        return (beta / 2) ** step
    rate = -decay * log(0.96)
    terms = (expm1(-k * rate * step) / expm1(k * rate) / (k * 2**k) for k in range(1, 51))
    return exp(step * log(beta) + sum(terms))


def common(config: AdamConfig) -> dict[str, Any]:
    """The settings that all of them have."""
    return {
        "lr": config.lr,
        "betas": tuple(config.betas),
        "eps": config.eps,
        "weight_decay": config.weight_decay,
    }
