"""Gradient descent, and its relatives that know only squared gradients."""

from typing import Any

import torch

from pipeline.config import AdadeltaConfig, AdagradConfig, RMSpropConfig, SGDConfig


def sgd(config: SGDConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Gradient descent with momentum; weight decay is added to the gradient."""
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        **options,
    )


def rmsprop(config: RMSpropConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """RMSprop (Hinton 2012, lecture 6e), centred as in Graves 2013 if asked for."""
    return torch.optim.RMSprop(
        parameters,
        lr=config.lr,
        alpha=config.alpha,
        eps=config.eps,
        momentum=config.momentum,
        centered=config.centered,
        weight_decay=config.weight_decay,
        **options,
    )


def adagrad(config: AdagradConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    return torch.optim.Adagrad(
        parameters,
        lr=config.lr,
        lr_decay=config.lr_decay,
        initial_accumulator_value=config.initial_accumulator_value,
        eps=config.eps,
        weight_decay=config.weight_decay,
        **options,
    )


def adadelta(config: AdadeltaConfig, parameters: Any, **options: Any) -> torch.optim.Optimizer:
    """Adadelta (Zeiler 2012)."""
    return torch.optim.Adadelta(
        parameters,
        lr=config.lr,
        rho=config.rho,
        eps=config.eps,
        weight_decay=config.weight_decay,
        **options,
    )
