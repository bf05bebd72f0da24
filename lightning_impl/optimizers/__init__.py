"""The optimizers, by the names of the `optimizer` config group: torch's own, where torch has them."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from lightning_impl.optimizers.adam import adam, adamax, adamw, amsgrad, nadam, radam
from lightning_impl.optimizers.descent import adadelta, adagrad, rmsprop, sgd
from lightning_impl.optimizers.lamb import lamb
from lightning_impl.optimizers.lion import lion
from lightning_impl.optimizers.muon import muon
from pipeline.config import OptimizerConfig
from pipeline.groups import Group

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "amsgrad": amsgrad,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "lion": lion,
    "lamb": lamb,
    "muon": muon,
}

# Those that torch has one kernel for that updates all parameters at once; and of these, those whose
# kernel knows parameters that each device has a part of.
FUSED = {"sgd", "adam", "adamw", "amsgrad", "adagrad"}
FUSED_SHARDED = {"adam", "adamw", "amsgrad"}


def build_optimizer(
    config: OptimizerConfig,
    parameters: Iterable[tuple[str, Parameter]],
    groups: Mapping[str, Group] | None = None,
) -> torch.optim.Optimizer:
    """An optimizer with one parameter group for each treatment; `lr_factor` there is on its rate.

    Args:
        config: of the `optimizer` group.
        parameters: by canonical name; the frozen ones are left out.
        groups: how each is treated; None: all alike.
    """
    treated: dict[Group, list[tuple[str, Parameter]]] = {}
    for name, parameter in parameters:
        group = groups[name] if groups else Group()
        if not group.frozen:
            treated.setdefault(group, []).append((name, parameter))
    sharded = any(isinstance(tensor, DTensor) for group in treated.values() for _, tensor in group)
    options = {"fused": True} if config.name in (FUSED_SHARDED if sharded else FUSED) else {}
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
