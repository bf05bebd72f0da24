"""Clipping of gradients, and a check of them."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm

from lightning_impl.sharding import whole
from pipeline.config.experiment import Config
from pipeline.config.train import TrainConfig
from pipeline.errors import UserError


def clip_gradients(
    parameters: Sequence[nn.Parameter], train: TrainConfig, needs_norm: bool
) -> torch.Tensor | None:
    """Scale gradients to `train.clip_norm`, or clamp them to `train.clip_value`.

    Return their norm before clipping; None without `train.clip_norm`, unless `needs_norm`.
    """
    norm = None
    if train.clip_norm is not None:
        norm = whole(clip_grad_norm_(parameters, train.clip_norm)).detach()
    elif needs_norm:
        gradients = [value.grad for value in parameters if value.grad is not None]
        norm = whole(get_total_norm(gradients)).detach()
    if train.clip_value is not None:
        clip_grad_value_(parameters, train.clip_value)
    return norm


def check_gradients(model: nn.Module, config: Config) -> None:
    """Refuse a model with a parameter that gets no gradient: ddp would wait for it.

    Only here: JAX differentiates by all parameters.
    """
    named = model.named_parameters()
    missing = [name for name, value in named if value.requires_grad and value.grad is None]
    if missing:
        strategy = config.accelerator.strategy.name
        problem = f"the loss does not depend on {', '.join(missing)}, which ddp does not allow"
        hint = f"Set accelerator.strategy=fsdp or train.frozen=[{','.join(missing)}]."
        raise UserError("accelerator.strategy", strategy, problem=problem, hint=hint)
