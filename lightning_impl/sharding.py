"""Sharding of a model's tensors over the devices of a run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import FunctionCtx
from torch.distributed.device_mesh import DeviceMesh

from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

LISTS = nn.Sequential, nn.ModuleList


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard every parameter over the devices; each block is gathered while it runs."""
    for name, parameter in model.named_parameters():
        if not parameter.ndim:
            allowed = f"ddp: {name} is a scalar, which FSDP cannot shard"
            hint = "Or give it a shape: torch.zeros(1) instead of torch.zeros(())."
            raise UserError("accelerator.strategy", "fsdp", allowed, hint)
    from torch.distributed.fsdp import fully_shard  # loads what a run on one device does not need

    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that run one after the other: the members of the outermost module lists."""
    for child in model.children():
        if not isinstance(model, LISTS):
            yield from blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


def is_sharded(tensor: torch.Tensor) -> TypeGuard["DTensor"]:
    """True if each device keeps a part of a tensor."""
    return hasattr(tensor, "device_mesh")  # a run on one device does not load DTensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor that may be sharded, on every device. Collective: all processes call it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


class _GatherRows(torch.autograd.Function):
    """All-gather with a gradient: of its own rows, the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> torch.Tensor:
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Join the rows of all devices, which have equally many. Collective: all processes call it.

    Only here: to XLA the batch of all devices is one array.
    """
    gathered = _GatherRows.apply(rows)
    assert isinstance(gathered, torch.Tensor)
    return gathered


def part(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Shard a whole tensor as `like`, if that is sharded; each device keeps its shard."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    tensor = DTensor.from_local(tensor.to(like.device), like.device_mesh, [Replicate()])
    return tensor.redistribute(placements=like.placements)
