"""How the devices of a run share a model: each a copy of it (ddp), or each a part (fsdp).

Lightning's strategies do the work. Which processes there are is told by `pipeline.world` alone, so that
torchrun, srun, a person and `pipeline.ranks` are one case.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate

from lightning_impl.device import Device
from lightning_impl.norms import SyncBatchNorm
from pipeline.config import Precision
from pipeline.errors import UserError
from pipeline.world import World

LISTS = nn.Sequential, nn.ModuleList


def sharing(device: Device, module: LightningModule) -> dict[str, Any]:
    """What Lightning's Trainer is told of the devices.

    To Lightning each process is a machine with one device: which of them share one is no matter here.

    Args:
        device: of this process.
        module: that will be trained or evaluated.
    """
    plugins: list[Any] = [Processes(device.world)]
    options: dict[str, Any] = {
        "accelerator": device.kind,
        "devices": [device.index] if device.kind == "gpu" else 1,
        "num_nodes": device.devices,
    }
    if device.sharded and device.precision is Precision.fp64:
        plugins.append(DoublePrecision())  # by its name Lightning refuses it with this strategy
    else:
        options["precision"] = device.lightning_precision
    if device.devices > 1:
        options["strategy"] = strategy(device, module)
    return options | {"plugins": plugins}


def strategy(device: Device, module: LightningModule) -> Strategy:
    """Lightning's strategy for several devices."""
    if device.sharded:
        return Sharded(data_parallel_size=device.devices, tensor_parallel_size=1)
    return Replicated(
        gradient_as_bucket_view=True, broadcast_buffers=bool(loose_buffers(module.model))
    )


class Processes(ClusterEnvironment):
    """The processes of a run, as Lightning asks for them.

    Only here: JAX is told of them when it joins them.

    Args:
        world: that they are.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @property
    def creates_processes_externally(self) -> bool:
        """They are there."""
        return True

    @property
    def main_address(self) -> str:
        """Host of the first process."""
        return self.world.host

    @property
    def main_port(self) -> int:
        """That the first process listens on."""
        return self.world.port

    @staticmethod
    def detect() -> bool:
        """Whether to choose it unasked."""
        return False

    def world_size(self) -> int:
        """How many there are."""
        return self.world.size

    def set_world_size(self, size: int) -> None:
        """Nothing: it is known."""

    def global_rank(self) -> int:
        """Of this one."""
        return self.world.rank

    def set_global_rank(self, rank: int) -> None:
        """Nothing: it is known."""

    def local_rank(self) -> int:
        """Each is the only one of its machine."""
        return 0

    def node_rank(self) -> int:
        """Each is a machine."""
        return self.world.rank


class Replicated(DDPStrategy):
    """DDP, whose gradients are added up in one order from the first step on.

    DDP arranges gradients anew after the first step that it sees, by the order in which they came; and
    where a gradient lies decides in which order it is added up. So a run that is gone on with would
    differ in the last digits from one that was never stopped. It is shown a step without a batch first.

    Only here: to XLA the devices are one program.
    """

    def on_train_start(self) -> None:
        """A backward pass whose gradients are zero."""
        nothing = self._forward_redirection(self.model, self.lightning_module, "nothing")
        nothing.backward()
        self.lightning_module.zero_grad()


class Sharded(ModelParallelStrategy):
    """FSDP2, with checkpoints as one device writes them: one file, whole tensors, torch's own layout.

    Only here: Orbax writes and reads shares by itself.
    """

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the state over."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors, in the memory of the first process."""
        return self._whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Whole tensors, in the memory of the first process."""
        return self._whole(optimizer.state_dict())

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        def gathered(tensor: torch.Tensor) -> torch.Tensor | None:
            tensor = whole(tensor)  # which all processes have to do
            return tensor.cpu() if self.is_global_zero else None

        return apply_to_collection(state, torch.Tensor, gathered)

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """The first process writes, as with any other strategy."""
        Strategy.save_checkpoint(self, *args, **kwargs)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read it, as with any other strategy."""
        return Strategy.load_checkpoint(self, *args, **kwargs)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Keep this device's share."""
        state, mine = checkpoint["state_dict"], self.lightning_module.state_dict()
        parts = {name: part(tensor, mine[name]) for name, tensor in state.items()}
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Keep this device's share."""
        Strategy.load_optimizer_state_dict(self, checkpoint)
        for optimizer in self.optimizers:
            for parameter, slots in optimizer.state.items():
                for name, slot in slots.items():
                    if slot.shape == parameter.shape:
                        slots[name] = part(slot, parameter)

    def on_validation_start(self) -> None:
        """Give all processes the buffers of the first, as DDP does before each forward pass."""
        for buffer in loose_buffers(self.lightning_module):
            torch.distributed.broadcast(buffer, 0)


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Leave each device its part of every parameter; what a block needs is gathered while it runs.

    Raises:
        UserError: a parameter has no axis to be cut along.
    """
    for name, parameter in model.named_parameters():
        if not parameter.ndim:
            allowed = f"ddp: {name} is a single number, which no devices can share"
            hint = "Or give it a shape: torch.zeros(1) instead of torch.zeros(())."
            raise UserError("accelerator.strategy", "fsdp", allowed, hint)
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The parts that run one after the other: the members of the outermost lists of modules."""
    for child in model.children():
        if not isinstance(model, LISTS):
            yield from blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which each device may have a part, on each of them. All have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor cut as `like` is, if that is; each device keeps its part."""
    if not isinstance(like, DTensor):
        return tensor
    tensor = DTensor.from_local(tensor.to(like.device), like.device_mesh, [Replicate()])
    return tensor.redistribute(placements=like.placements)


def loose_buffers(model: nn.Module) -> list[torch.Tensor]:
    """Buffers that may come to differ between devices: all but synchronised batch statistics."""
    return [
        buffer
        for layer in model.modules()
        if not isinstance(layer, nn.SyncBatchNorm | SyncBatchNorm)
        for buffer in layer.buffers(recurse=False)
    ]
