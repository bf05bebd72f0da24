"""Where JAX computes, and in which precision; and what all processes of a run settle together."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from pipeline.config import Config, Kind, MatmulPrecision, Precision, Strategy
from pipeline.errors import UserError
from pipeline.hardware import gpu_count, resident_memory_mb
from pipeline.sharing import devices_per_node
from pipeline.world import ALONE, World

DATA = "data"  # the one axis of the mesh of devices

STEPS_PER_CALL = 32  # on a GPU, where a call costs more than a small step

# Compiled programs are kept here, so that the next run of the same shapes need not compile.
CACHE = Path(os.environ.get("TANDEM_CACHE", Path.home() / ".cache" / "tandem")) / "jax"

SILENCE = (
    20  # seconds without a sign of life after which a process counts as dead, and ends the others
)
FAREWELL = 10  # seconds that a process which is done waits for the others
PATIENCE = (
    3600  # seconds at most that the first may keep the others waiting, with a large file, say
)


@dataclass
class Device:
    """All devices of the run, those of other processes too, and the number types of the run on them.

    Args:
        kind: `cpu` or `gpu`.
        precision: of the configuration.
        steps_per_call: training steps in one compiled call.
        description: of all devices of the run, for people.
        mesh: the devices, along one axis; those of a process lie side by side.
        world: the processes of the run; each has an equal share of the devices.
        sharded: whether each device holds a share of the model only.
    """

    kind: str
    precision: Precision
    steps_per_call: int
    description: str
    mesh: Mesh
    world: World = ALONE
    sharded: bool = False
    _said: dict[int, jax.Array] = field(default_factory=dict)
    _asked: jax.Array | int = 0
    _waited: int = 0

    def __post_init__(self) -> None:
        self._largest = jax.jit(jnp.max, out_shardings=self.everywhere)

    @property
    def devices(self) -> int:
        """Of the whole run."""
        return self.mesh.size

    @property
    def everywhere(self) -> NamedSharding:
        """Where an array lies of which each device has a copy."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def dtype(self) -> Any:
        """Type of parameters, inputs and losses; bf16 lowers only products and convolutions."""
        return jnp.float64 if self.precision is Precision.fp64 else jnp.float32

    @property
    def compute_dtype(self) -> Any:
        """Type of products and convolutions."""
        return jnp.bfloat16 if self.precision is Precision.bf16 else self.dtype

    def read(self, values: list[jax.Array]) -> np.ndarray:
        """Per-step values `[values]` or `[steps, values]` off the device: float64 `[steps, values]`."""
        host = [np.atleast_2d(value) for value in jax.device_get(values)]
        return np.concatenate(host).astype(np.float64)

    def highest(self, number: int) -> int:
        """See `pipeline.backends.Device`. The answer to the first question is 0."""
        if self.world.size == 1:
            return number
        if number not in self._said:
            said = NamedSharding(self.mesh, PartitionSpec(DATA))
            numbers = np.full(self.devices, number)
            self._said[number] = jax.make_array_from_callback(
                numbers.shape, said, numbers.__getitem__
            )
        known, self._asked = int(self._asked), self._largest(self._said[number])
        return known

    def wait_for_all(self) -> None:
        """Return when all processes of the run have come here."""
        self._waited += 1
        wait = multihost.get_barrier_sync_fn()  # of the processes themselves; no device is asked
        wait(key=f"tandem/{self._waited}", timeout_ms=1000 * PATIENCE)

    def peak_memory_mb(self) -> float:
        """Highest memory so far in MB: the device's, or on a CPU the process's."""
        if self.kind == "gpu":
            return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
        return resident_memory_mb()


def prepare(config: Config, world: World = ALONE) -> Device:
    """Choose the devices, set JAX's precision and determinism flags, and meet the other processes.

    Raises:
        UserError: JAX sees no GPU and one is asked for, or fewer devices than are asked for.
    """
    accelerator = config.accelerator
    # Taken as needed, not three quarters at the first operation: other jobs may share the GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if accelerator.deterministic:
        _add_xla_flag("--xla_gpu_deterministic_ops=true")
    if accelerator.kind is Kind.cpu:
        jax.config.update("jax_platforms", "cpu")
    tf32 = accelerator.matmul_precision is MatmulPrecision.tf32
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    jax.config.update("jax_enable_x64", config.train.precision is Precision.fp64)
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    count = devices_per_node(config, world) // world.local_size
    choose(accelerator.kind, count, world)
    if world.size > 1:
        meet(world)
    gpu = jax.default_backend() == "gpu"
    if accelerator.kind is Kind.gpu and not gpu:
        raise UserError(
            "accelerator",
            "gpu",
            "cpu or auto here: JAX sees no GPU",
            "Set accelerator=cpu, or install JAX for your GPU: pip install -e '.[cuda]'.",
        )
    mesh = mesh_of(count, world)
    name = jax.devices()[0].device_kind if gpu else f"cpu, {len(os.sched_getaffinity(0))} threads"
    return Device(
        kind="gpu" if gpu else "cpu",
        precision=config.train.precision,
        steps_per_call=accelerator.steps_per_call or (STEPS_PER_CALL if gpu else 1),
        description=f"jax on {described(name, mesh.size, world)}",
        mesh=mesh,
        world=world,
        sharded=accelerator.strategy is Strategy.fsdp and mesh.size > 1,
    )


def described(name: str, devices: int, world: World) -> str:
    """All devices of a run, each of which is a `name`."""
    count = f"{devices} × " if devices > 1 else ""
    machines = f" ({world.nodes} machines)" if world.nodes > 1 else ""
    return f"{count}{name}{machines}"


def meet(world: World) -> None:
    """Join the other processes of the run; all of them have to come.

    From then on each notices when another is gone: what they wait for fails, or within `SILENCE`
    seconds JAX ends them.
    """
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # signals are `Interruption`'s
    jax.distributed.initialize(
        world.address,
        world.size,
        world.rank,
        cluster_detection_method="deactivate",  # `World` has told all
        heartbeat_timeout_seconds=SILENCE,
        shutdown_timeout_seconds=FAREWELL,
    )


def choose(kind: Kind, count: int, world: World) -> None:
    """Make JAX see this process's devices alone, or as many on a CPU; before it touches the first.

    Only here: a process of torch has one device.

    Args:
        kind: of devices that is asked for.
        count: of devices for this process.
        world: the processes of the run.
    """
    gpus = 0 if kind is Kind.cpu else gpu_count()
    if not gpus:
        if count > 1:
            make_room(count)
        if count > max(1, jax.config.jax_num_cpu_devices):
            jax.config.update("jax_num_cpu_devices", count)
        return
    # Slurm may show each task its own GPUs only.
    first = world.local_rank * count if gpus >= world.local_size * count else 0
    if (first, count) != (0, gpus):
        chosen = ",".join(map(str, range(first, first + count)))
        jax.config.update("jax_cuda_visible_devices", chosen)


def make_room(count: int) -> None:
    """Give XLA a thread more for each device on a CPU than there are cores.

    A device that waits for the others keeps a thread waiting. With a thread for each core, XLA's
    default, those that wait may be all, and then no device comes any further: after 40 s XLA aborts.
    Only here: torch's devices are processes, each with its own threads.
    """
    os.environ.setdefault("PJRT_NPROC", str(len(os.sched_getaffinity(0)) + count))


def mesh_of(count: int, world: World) -> Mesh:
    """The first `count` devices of each process, one process's after the other's.

    Only here: torch's groups of processes have one device each.

    Raises:
        UserError: a process has fewer.
    """
    own = [[] for _ in range(world.size)]
    for device in jax.devices():
        own[device.process_index].append(device)
    fewest = min(map(len, own))
    if fewest < count:
        raise UserError(
            "accelerator.devices",
            count * world.local_size,
            f"at most {fewest * world.local_size}: JAX sees {fewest} {jax.default_backend()} "
            f"device{'s' * (fewest != 1)}" + " in a process" * (world.size > 1),
            "Set accelerator.devices=auto to take what there is.",
        )
    return Mesh(np.array([device for devices in own for device in devices[:count]]), (DATA,))


def _add_xla_flag(flag: str) -> None:
    """Add to XLA's flags, which it reads when the first device is touched; once, as the compilation
    cache tells programs apart by them.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if flag not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, flag])
