"""The torch device of a process, its dtypes, and its communication with the other processes."""

import atexit
import os
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist

from lightning_impl.gpu import check_architecture, reason_of_fallback
from pipeline.config.accelerator import Kind, MatmulPrecision, Strategy
from pipeline.config.experiment import Config
from pipeline.config.train import Precision
from pipeline.devices.hardware import resident_memory_mb
from pipeline.devices.world import ALONE, World, network_interface
from pipeline.errors import UserError
from pipeline.formatting import counted


@dataclass
class Device:
    """One device, its dtypes, and the run's other processes."""

    kind: str  # `cpu` or `gpu`
    precision: Precision
    description: str  # of all devices of the run, for the log
    world: World = ALONE  # the processes of the run; each has one device
    index: int = 0  # of the GPU among those visible to this process
    sharded: bool = False  # each device holds a shard of the model
    fallback: str = ""  # why `accelerator=auto` takes the CPU of a machine with GPUs
    _sent: torch.Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    _pending: dist.Work | None = None

    @property
    def devices(self) -> int:
        """Number of devices of the run."""
        return self.world.size

    @property
    def torch_device(self) -> torch.device:
        """The device as a `torch.device`."""
        return torch.device("cuda", self.index) if self.kind == "gpu" else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of parameters, inputs and losses; bf16 applies to products and convolutions only."""
        return torch.float64 if self.precision is Precision.fp64 else torch.float32

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a tensor of the CPU to the device, without waiting for the device.

        The copy of pageable memory would wait until the GPU has done all that it was asked to before. Only
        here: JAX's transfers do not wait.
        """
        if self.kind == "cpu":
            return tensor
        return tensor.pin_memory().to(self.torch_device, non_blocking=True)

    def free_bytes(self) -> int | None:
        """Memory of the GPU that other processes leave to this one; None on a CPU."""
        if self.kind == "cpu":
            return None
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()

    def share(self, count: int) -> slice:
        """This device's block of `count` rows; blocks differ by at most one row."""
        rank, size = self.world.rank, self.world.size
        return slice(rank * count // size, (rank + 1) * count // size)

    def read(self, values: list[torch.Tensor]) -> np.ndarray:
        """Read values `[values]` in one transfer, summed over the devices: float64 `[…, values]`."""
        own = torch.stack(values).double().cpu()
        if self.devices == 1:
            return own.numpy()
        # Summed here: the order of `all_reduce`'s sum depends on the number of values.
        ranks = [torch.empty_like(own) for _ in range(self.devices)]
        dist.all_gather(ranks, own)
        return torch.stack(ranks).sum(dim=0).numpy()

    def lagged_max(self, number: int) -> int:
        """Return the maximum of the previous call's numbers over all processes; 0 at the first call."""
        if self.devices == 1:
            return number
        if self._pending is not None:
            self._pending.wait()
        known = int(self._sent)
        self._sent = torch.tensor([number])
        self._pending = dist.all_reduce(self._sent, dist.ReduceOp.MAX, async_op=True)
        return known

    def wait_for_all(self) -> None:
        """Block until all processes of the run have called this."""
        if self.devices > 1:
            dist.all_reduce(torch.zeros(1))  # NCCL's barrier would wait for the GPUs too

    def peak_memory_mb(self) -> float:
        """Peak memory so far in MB: the GPU's, or on a CPU the process's."""
        if self.kind == "gpu":
            return torch.cuda.max_memory_allocated() / 2**20
        return resident_memory_mb()


def prepare(config: Config, world: World = ALONE) -> Device:
    """Select the device, set torch's precision and determinism flags, and join the other processes.

    Raises:
        UserError: torch sees fewer GPUs than the config requires, or has no kernels for them.
    """
    accelerator = config.accelerator
    # A CPU run does not ask: CUDA takes a second or two to start.
    gpu = accelerator.kind is not Kind.cpu and torch.cuda.is_available()
    if accelerator.kind is Kind.gpu and not gpu:
        hint = "Set accelerator=cpu, or install torch for your GPU."
        raise UserError("accelerator.kind", "gpu", problem="torch sees no GPU", hint=hint)
    tf32 = accelerator.matmul_precision is MatmulPrecision.tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # torch's default differs from that of matmul
    # Products of bf16 are summed in float32 throughout, as by XLA.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.use_deterministic_algorithms(accelerator.deterministic)
    # By default torch fills every empty tensor in deterministic mode, which costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyrefly: ignore[missing-attribute]
    torch.backends.cudnn.benchmark = not accelerator.deterministic
    if accelerator.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if accelerator.threads is not None:
        torch.set_num_threads(accelerator.threads)
    index = _gpu_of(world) if gpu else 0
    if gpu:
        torch.cuda.set_device(index)
        check_architecture(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())
    if world.size > 1:
        init_distributed(world, gpu)
    name = (
        torch.cuda.get_device_name()
        if gpu
        else f"cpu, {counted(torch.get_num_threads(), 'thread')}"
    )
    return Device(
        kind="gpu" if gpu else "cpu",
        precision=config.train.precision,
        description=f"torch on {world.describe(name, world.size)}",
        world=world,
        index=index,
        sharded=accelerator.strategy is Strategy.fsdp and world.size > 1,
        fallback=reason_of_fallback() if accelerator.kind is Kind.auto and not gpu else "",
    )


def _gpu_of(world: World) -> int:
    """Index of this process's GPU among those visible. Only here: a JAX process has several."""
    seen = torch.cuda.device_count()
    if seen == 1 and world.launcher in ("slurm", "manual"):
        return 0  # the launcher shows each process one GPU
    if seen < world.local_size:
        problem = f"torch sees only {seen} GPUs"
        hint = "Set accelerator.devices=auto to take what there is."
        raise UserError("accelerator.devices", world.local_size, problem=problem, hint=hint)
    return world.local_rank


def init_distributed(world: World, gpu: bool) -> None:
    """Join the other processes of the run; return when all have joined.

    NCCL transfers GPU tensors. gloo transfers CPU tensors, and detects at once when a process has ended.
    """
    if dist.is_initialized():
        return
    if world.nodes > 1 and (interface := network_interface(world.host)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        init_method=f"tcp://{world.address}",
        rank=world.rank,
        world_size=world.size,
    )
    atexit.register(dist.destroy_process_group)
