"""Where torch computes, and in which precision; and what all processes of a run settle together."""

import atexit
import os
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist

from pipeline.config import Config, Kind, MatmulPrecision, Precision, Strategy
from pipeline.errors import UserError
from pipeline.hardware import resident_memory_mb
from pipeline.world import ALONE, World


@dataclass
class Device:
    """One device, the number types of the run on it, and the run's other processes.

    Args:
        kind: `cpu` or `gpu`.
        precision: of the configuration.
        description: of all devices of the run, for people.
        world: the processes of the run; each has one device.
        index: of the GPU among those that this process may use.
        sharded: whether each device holds a share of the model only.
    """

    kind: str
    precision: Precision
    description: str
    world: World = ALONE
    index: int = 0
    sharded: bool = False
    _said: torch.Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    _asked: dist.Work | None = None

    @property
    def devices(self) -> int:
        """Of the whole run."""
        return self.world.size

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device("cuda", self.index) if self.kind == "gpu" else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Type of parameters, inputs and losses; bf16 lowers only products and convolutions."""
        return torch.float64 if self.precision is Precision.fp64 else torch.float32

    @property
    def lightning_precision(self) -> str:
        """The precision as Lightning's Trainer names it."""
        return {
            Precision.fp32: "32-true",
            Precision.bf16: "bf16-mixed",
            Precision.fp64: "64-true",
        }[self.precision]

    def share(self, count: int) -> slice:
        """This device's rows of so many: a block, as large as the others' or one smaller."""
        rank, size = self.world.rank, self.world.size
        return slice(rank * count // size, (rank + 1) * count // size)

    def read(self, values: list[torch.Tensor]) -> np.ndarray:
        """Values `[values]` off the devices in one transfer, summed over them: float64 `[…, values]`."""
        own = torch.stack(values).double().cpu()
        if self.devices == 1:
            return own.numpy()
        # Added up here: the order in which `all_reduce` adds depends on how much is read at once.
        ranks = [torch.empty_like(own) for _ in range(self.devices)]
        dist.all_gather(ranks, own)
        return torch.stack(ranks).sum(dim=0).numpy()

    def highest(self, number: int) -> int:
        """See `pipeline.backends.Device`. The answer to the first question is 0."""
        if self.devices == 1:
            return number
        if self._asked is not None:
            self._asked.wait()
        known = int(self._said)
        self._said = torch.tensor([number])
        self._asked = dist.all_reduce(self._said, dist.ReduceOp.MAX, async_op=True)
        return known

    def wait_for_all(self) -> None:
        """Return when all processes of the run have come here."""
        if self.devices > 1:
            dist.all_reduce(torch.zeros(1))  # a barrier of NCCL's would wait for the GPUs too

    def peak_memory_mb(self) -> float:
        """Highest memory so far in MB: the device's, or on a CPU the process's."""
        if self.kind == "gpu":
            return torch.cuda.max_memory_allocated() / 2**20
        return resident_memory_mb()


def prepare(config: Config, world: World = ALONE) -> Device:
    """Choose the device, set torch's precision and determinism flags, and meet the other processes.

    Raises:
        UserError: torch sees no GPU and one is asked for, or fewer than are asked for.
    """
    accelerator = config.accelerator
    available = torch.cuda.is_available()
    if accelerator.kind is Kind.gpu and not available:
        raise UserError(
            "accelerator",
            "gpu",
            "cpu or auto here: torch sees no GPU",
            "Set accelerator=cpu, or install torch for your GPU.",
        )
    gpu = available and accelerator.kind is not Kind.cpu
    tf32 = accelerator.matmul_precision is MatmulPrecision.tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # torch's own default differs from that of matmul
    torch.use_deterministic_algorithms(accelerator.deterministic)
    # Otherwise every empty tensor is filled first, to make reading one by mistake repeatable.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not accelerator.deterministic
    if accelerator.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if accelerator.threads is not None:
        torch.set_num_threads(accelerator.threads)
    index = gpu_of(world) if gpu else 0
    if gpu:
        torch.cuda.set_device(index)
    if world.size > 1:
        meet(world, gpu)
    name = torch.cuda.get_device_name() if gpu else f"cpu, {torch.get_num_threads()} threads"
    return Device(
        kind="gpu" if gpu else "cpu",
        precision=config.train.precision,
        description=f"torch on {described(name, world.size, world)}",
        world=world,
        index=index,
        sharded=accelerator.strategy is Strategy.fsdp and world.size > 1,
    )


def gpu_of(world: World) -> int:
    """This process's GPU, among those that it sees. Only here: a process of JAX has several.

    Raises:
        UserError: there are fewer than processes.
    """
    seen = torch.cuda.device_count()
    if seen == 1 and world.origin in ("slurm", "hand"):
        return 0  # each process is shown its own
    if seen < world.local_size:
        raise UserError(
            "accelerator.devices",
            world.local_size,
            f"at most {seen}: torch sees no more GPUs",
            "Set accelerator.devices=auto to take what there is.",
        )
    return world.local_rank


def described(name: str, devices: int, world: World) -> str:
    """All devices of a run, each of which is a `name`."""
    count = f"{devices} × " if devices > 1 else ""
    machines = f" ({world.nodes} machines)" if world.nodes > 1 else ""
    return f"{count}{name}{machines}"


def meet(world: World, gpu: bool) -> None:
    """Join the other processes of the run; all of them have to come.

    What lies on a GPU goes by NCCL, what lies in memory by gloo, which notices at once when a process
    is gone.
    """
    if dist.is_initialized():
        return
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        init_method=f"tcp://{world.address}",
        rank=world.rank,
        world_size=world.size,
    )
    atexit.register(dist.destroy_process_group)
