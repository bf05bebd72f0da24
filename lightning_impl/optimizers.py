"""The optimizers, by the names of the `optimizer` config group: torch's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import Parameter

from pipeline.config import AdamConfig, OptimizerConfig, SGDConfig

Named = Iterable[tuple[str, Parameter]]


def sgd(config: SGDConfig, parameters: Named, **options: Any) -> torch.optim.Optimizer:
    """Gradient descent with momentum; weight decay is added to the gradient."""
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        **options,
    )


def adam(config: AdamConfig, parameters: Named, **options: Any) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    return torch.optim.Adam(
        parameters,
        lr=config.lr,
        betas=tuple(config.betas),
        eps=config.eps,
        weight_decay=config.weight_decay,
        **options,
    )


def adamw(config: AdamConfig, parameters: Named, **options: Any) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=tuple(config.betas),
        eps=config.eps,
        weight_decay=config.weight_decay,
        **options,
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


def build_optimizer(config: OptimizerConfig, parameters: Named) -> torch.optim.Optimizer:
    """An optimizer over named parameters, fused: one kernel updates all of them."""
    return OPTIMIZERS[config.name](config, parameters, fused=True)
