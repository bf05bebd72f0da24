"""Lightning's strategies for a model that is replicated (ddp) or sharded (fsdp) over the devices of a run.

`devices.world` alone says which processes there are, so torchrun, srun, a manual start and
`devices.launch_ranks` are treated alike.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import nn
from torch.optim import Optimizer

from lightning_impl.device import Device
from lightning_impl.norms import SyncBatchNorm
from lightning_impl.sharding import part, whole
from pipeline.config.train import Precision
from pipeline.devices.world import World

# Lightning's names of the precisions.
PRECISIONS = {Precision.fp32: "32-true", Precision.bf16: "bf16-mixed", Precision.fp64: "64-true"}

State = dict[str, Any]  # Lightning's: tensors in nested containers


def trainer_options(device: Device, module: LightningModule) -> State:
    """Return the arguments of Lightning's Trainer that describe the devices.

    Each process is declared to Lightning as a node with one device.
    """
    plugins: list[object] = [_WorldEnvironment(device.world)]
    options: State = {
        "accelerator": device.kind,
        "devices": [device.index] if device.kind == "gpu" else 1,
        "num_nodes": device.devices,
        "plugins": plugins,
    }
    if device.sharded and device.precision is Precision.fp64:
        plugins.append(DoublePrecision())  # Lightning rejects it by name with this strategy
    else:
        options["precision"] = PRECISIONS[device.precision]
    if device.sharded:
        options["strategy"] = _FSDP2(data_parallel_size=device.devices, tensor_parallel_size=1)
    elif device.devices > 1:
        buffers = bool(_loose_buffers(module))
        options["strategy"] = _DeterministicDDP(
            gradient_as_bucket_view=True, broadcast_buffers=buffers
        )
    return options


class _WorldEnvironment(ClusterEnvironment):
    """The processes of a run, in Lightning's interface.

    Only here: `jax.distributed.initialize` takes these values.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.world.host

    @property
    def main_port(self) -> int:
        return self.world.port

    @staticmethod
    def detect() -> bool:
        return False  # Lightning must not choose it by itself

    def world_size(self) -> int:
        return self.world.size

    def set_world_size(self, size: int) -> None:
        """No-op: `World` sets it."""

    def global_rank(self) -> int:
        return self.world.rank

    def set_global_rank(self, rank: int) -> None:
        """No-op: `World` sets it."""

    def local_rank(self) -> int:
        return 0  # each process is the only one of its node

    node_rank = global_rank


class _DeterministicDDP(DDPStrategy):
    """DDP that sums gradients in the same order from the first step on.

    After its first step DDP rebuilds its gradient buckets in the order in which gradients arrived, and
    the buckets determine the order of the sums. A resumed run would differ in the last digits from an
    uninterrupted one, so the buckets are rebuilt by a backward pass before the first step. Only here: XLA
    compiles one program for all devices.
    """

    def on_train_start(self) -> None:
        module = _module_of(self)
        assert self.model is not None
        loss = self._forward_redirection(self.model, module, "zero_loss")
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        module.zero_grad()


class _FSDP2(ModelParallelStrategy):
    """FSDP2 with checkpoints as from one device: one file, whole tensors, torch's own layout.

    All ranks gather the tensors, and rank 0 keeps and writes them. When a checkpoint is read, each device
    keeps its shard. Only here: Orbax writes and reads shards by itself.
    """

    # As other strategies do.
    lightning_restore_optimizer = Strategy.lightning_restore_optimizer
    save_checkpoint = Strategy.save_checkpoint
    load_checkpoint = Strategy.load_checkpoint

    def lightning_module_state_dict(self) -> State:
        return self._whole(_module_of(self).state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> State:
        return self._whole(optimizer.state_dict())

    def _whole(self, state: State) -> State:
        """Gather the tensors of a state in the memory of rank 0."""

        def gathered(tensor: torch.Tensor) -> torch.Tensor | None:
            tensor = whole(tensor)  # collective: all processes take part
            return tensor.cpu() if self.is_global_zero else None

        return apply_to_collection(state, torch.Tensor, gathered)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        state, mine = checkpoint["state_dict"], _module_of(self).state_dict()
        parts = {name: part(tensor, mine[name]) for name, tensor in state.items()}
        _module_of(self).load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        states = zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        own = [own_shards(optimizer, state) for optimizer, state in states]
        Strategy.load_optimizer_state_dict(self, {"optimizer_states": own})

    def on_validation_start(self) -> None:
        """Broadcast rank 0's buffers, as DDP does before each forward pass."""
        for buffer in _loose_buffers(_module_of(self)):
            torch.distributed.broadcast(buffer, 0)


def own_shards(optimizer: Optimizer, state: State) -> State:
    """Return an optimizer's whole state with the shards that this device keeps, cut one by one."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]

    def cut(slot: object, parameter: torch.Tensor) -> object:
        if not isinstance(slot, torch.Tensor) or slot.shape != parameter.shape:
            return slot
        return part(slot, parameter)

    slots = {
        number: {name: cut(slot, one) for name, slot in state["state"][number].items()}
        for number, one in zip(numbers, parameters, strict=True)
        if number in state["state"]
    }
    return {**state, "state": slots}


def _module_of(strategy: Strategy) -> LightningModule:
    assert strategy.lightning_module is not None
    return strategy.lightning_module


def _loose_buffers(model: nn.Module) -> list[torch.Tensor]:
    """Buffers that may differ between devices: all but synchronised running statistics."""
    return [
        buffer
        for layer in model.modules()
        if not isinstance(layer, nn.SyncBatchNorm | SyncBatchNorm)
        for buffer in layer.buffers(recurse=False)
    ]
