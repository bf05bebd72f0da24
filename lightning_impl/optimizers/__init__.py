"""Optimizers, by the names of the `optimizer` config group: torch's own, where torch has them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import Parameter

from lightning_impl.optimizers.adam import adam, adamax, adamw, amsgrad, lamb, nadam, radam
from lightning_impl.optimizers.custom import own
from lightning_impl.optimizers.descent import adadelta, adagrad, lion, rmsprop, sgd
from lightning_impl.optimizers.muon import muon
from lightning_impl.sharding import is_sharded
from pipeline.config.optimizers import OptimizerConfig, OwnOptimizerConfig
from pipeline.training.param_groups import ParamGroup

MAKERS: tuple[Callable[..., torch.optim.Optimizer], ...] = (
    sgd, adam, adamw, amsgrad, rmsprop, adagrad, adadelta, adamax, nadam, radam, lion, lamb, muon, own,
)  # fmt: skip
OPTIMIZERS = {maker.__name__: maker for maker in MAKERS}

# Optimizers with a fused kernel, which updates all parameters at once; and those whose fused kernel
# supports sharded parameters.
FUSED = {"sgd", "adam", "adamw", "amsgrad", "adagrad"}
FUSED_SHARDED = {"adam", "adamw", "amsgrad"}


def build_optimizer(
    config: OptimizerConfig,
    parameters: Iterable[tuple[str, Parameter]],
    groups: Mapping[str, ParamGroup] | None = None,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """Build an optimizer with one parameter group for each `ParamGroup`.

    Args:
        config: of the `optimizer` group.
        parameters: by canonical name; frozen ones are left out.
        groups: the `ParamGroup` of each, whose `lr_factor` scales its learning rate; None: all alike.
        fused: whether to update all parameters in one kernel, where the optimizer has it.
    """
    treated: dict[ParamGroup, list[tuple[str, Parameter]]] = {}
    for name, parameter in parameters:
        group = groups[name] if groups else ParamGroup()
        if not group.frozen:
            treated.setdefault(group, []).append((name, parameter))
    sharded = any(is_sharded(tensor) for group in treated.values() for _, tensor in group)
    has_kernel = config.name in (FUSED_SHARDED if sharded else FUSED)
    options = {"fused": True} if fused and has_kernel else {}
    return OPTIMIZERS[config.name](
        config,
        [
            {
                "params": members,
                "lr": config.lr * group.lr_factor,
                "weight_decay": config.weight_decay if group.decay else 0.0,
                "lr_factor": group.lr_factor,
                "matrix": group.matrix,
                "parts": group.parts,
            }
            for group, members in treated.items()
        ],
        **options,
    )


def settings_of(optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Settings of each parameter group that follow from the config.

    A user's own optimizer may keep state beside them.
    """
    if isinstance(config, OwnOptimizerConfig):
        kept = {"lr_factor", "weight_decay", *config.options, *config.torch_options}
    else:
        kept = {key for group in optimizer.param_groups for key in group}
    kept -= {"params", "param_names"}
    return [
        {key: value for key, value in group.items() if key in kept}
        for group in optimizer.param_groups
    ]
