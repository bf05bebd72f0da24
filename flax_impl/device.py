"""The JAX devices of a run, their dtypes, and communication between its processes."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from flax_impl.gpu import (
    check_architecture,
    check_flags,
    no_gpu,
    reason_of_fallback,
    select_platform,
    set_deterministic_flags,
    set_memory_limits,
)
from pipeline.config.accelerator import Kind, MatmulPrecision, Strategy
from pipeline.config.experiment import Config
from pipeline.config.train import Precision
from pipeline.devices.device_count import devices_per_node
from pipeline.devices.hardware import gpu_count, resident_memory_mb
from pipeline.devices.world import ALONE, World
from pipeline.errors import UserError
from pipeline.formatting import counted

DType = jax.typing.DTypeLike
PyTree = Any  # arrays in nested containers, of any structure

DATA = "data"  # the one axis of the mesh of devices

STEPS_PER_CALL = 32  # on a GPU, where a call costs more than a small step

# Cache of compiled programs, so that the next run of the same shapes need not compile.
CACHE = Path(os.environ.get("TANDEM_CACHE", Path.home() / ".cache" / "tandem")) / "jax"

HEARTBEAT = 20  # seconds without a heartbeat until a process counts as dead and the others end
SLURM_HEARTBEAT = 100  # Slurm may suspend a job, and ends the others itself if one process ends
SHUTDOWN = 10  # seconds for which a finished process waits for the others
BARRIER = 3600  # maximum seconds that processes wait for each other, as for a large file


@dataclass
class Device:
    """All devices of the run, those of other processes included, and their dtypes."""

    kind: str  # `cpu` or `gpu`
    precision: Precision
    steps_per_call: int  # training steps in one compiled call
    description: str  # of all devices of the run, for the log
    mesh: Mesh  # the devices, along one axis; those of a process are adjacent
    world: World = ALONE  # the processes of the run; each has equally many devices
    sharded: bool = False  # each device holds a shard of the model
    fallback: str = ""  # why `accelerator=auto` takes the CPU of a machine with GPUs
    _sent: dict[int, jax.Array] = field(default_factory=dict)
    _pending: jax.Array | int = 0
    _barriers: int = 0

    def __post_init__(self) -> None:
        self._largest = jax.jit(jnp.max, out_shardings=self.everywhere)

    @property
    def devices(self) -> int:
        """Number of devices of the run."""
        return self.mesh.size

    @property
    def everywhere(self) -> NamedSharding:
        """Sharding of an array that is replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def dtype(self) -> DType:
        """Dtype of parameters, inputs and losses; bf16 applies to products and convolutions only."""
        return jnp.float64 if self.precision is Precision.fp64 else jnp.float32

    @property
    def compute_dtype(self) -> DType:
        """Dtype of products and convolutions."""
        return jnp.bfloat16 if self.precision is Precision.bf16 else self.dtype

    def read(self, values: list[jax.Array]) -> np.ndarray:
        """Read per-step values `[values]` or `[steps, values]` from the device: float64 `[steps, values]`."""
        host = [np.atleast_2d(value) for value in jax.device_get(values)]
        return np.concatenate(host).astype(np.float64)

    def lagged_max(self, number: int) -> int:
        """Return the maximum of the previous call's numbers over all processes; 0 at the first call."""
        if self.world.size == 1:
            return number
        if number not in self._sent:
            spread = NamedSharding(self.mesh, PartitionSpec(DATA))
            copies = np.full(self.devices, number)
            sent = jax.make_array_from_callback(copies.shape, spread, copies.__getitem__)
            self._sent[number] = sent
        known, self._pending = int(self._pending), self._largest(self._sent[number])
        return known

    def wait_for_all(self) -> None:
        """Block until all processes of the run have called this."""
        self._barriers += 1
        wait = multihost.get_barrier_sync_fn()  # between the processes; no device takes part
        wait(key=f"tandem/{self._barriers}", timeout_ms=1000 * BARRIER)

    def peak_memory_mb(self) -> float:
        """Peak memory so far in MB: the GPU's, or on a CPU the process's."""
        if self.kind == "gpu":
            # No statistics with XLA_PYTHON_CLIENT_ALLOCATOR=platform.
            statistics = jax.local_devices()[0].memory_stats() or {}
            return statistics.get("peak_bytes_in_use", 0) / 2**20
        return resident_memory_mb()

    def free_bytes(self) -> int | None:
        """Memory of a GPU that JAX may take, the same in all processes of the run; None on a CPU.

        It decides which program is compiled, so it must not depend on what is in use.
        """
        if self.kind == "cpu":
            return None
        return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def prepare(config: Config, world: World = ALONE) -> Device:
    """Select the devices, set JAX's precision and determinism flags, and join the other processes.

    Raises:
        UserError: JAX sees fewer devices than the config requires, or has no kernels for them.
    """
    accelerator = config.accelerator
    set_memory_limits()
    if accelerator.deterministic:
        set_deterministic_flags(accelerator.kind is not Kind.cpu and gpu_count() > 0)
    select_platform(accelerator.kind)
    tf32 = accelerator.matmul_precision is MatmulPrecision.tf32
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")
    jax.config.update("jax_enable_x64", config.train.precision is Precision.fp64)
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    count = devices_per_node(config, world) // world.local_size
    _select_devices(accelerator.kind, count, world)
    if world.size > 1:
        init_distributed(world)
    gpu = jax.default_backend() == "gpu"
    if accelerator.kind is Kind.gpu and not gpu:
        raise no_gpu()
    if gpu:
        check_architecture(jax.local_devices()[0])
    check_flags(config.backend.xla_flags)
    mesh = _mesh_of(count, world)
    name = (
        jax.devices()[0].device_kind
        if gpu
        else f"cpu, {counted(len(os.sched_getaffinity(0)), 'thread')}"
    )
    return Device(
        kind="gpu" if gpu else "cpu",
        precision=config.train.precision,
        steps_per_call=accelerator.steps_per_call or (STEPS_PER_CALL if gpu else 1),
        description=f"jax on {world.describe(name, mesh.size)}",
        mesh=mesh,
        world=world,
        sharded=accelerator.strategy is Strategy.fsdp and mesh.size > 1,
        fallback=reason_of_fallback() if accelerator.kind is Kind.auto and not gpu else "",
    )


def init_distributed(world: World) -> None:
    """Join the other processes of the run; return when all have joined.

    If one ends later, communication with it fails, or JAX ends the others, within `HEARTBEAT` seconds, or
    `SLURM_HEARTBEAT` under Slurm.
    """
    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # `StopSignal` handles signals
    jax.distributed.initialize(
        world.coordinator,
        world.size,
        world.rank,
        cluster_detection_method="deactivate",  # `World` has all settings
        heartbeat_timeout_seconds=SLURM_HEARTBEAT if world.launcher == "slurm" else HEARTBEAT,
        shutdown_timeout_seconds=SHUTDOWN,
    )


def _select_devices(kind: Kind, count: int, world: World) -> None:
    """Restrict JAX to `count` devices of this process, before it initialises the first.

    Only here: a torch process has one device.
    """
    gpus = 0 if kind is Kind.cpu else gpu_count()
    if not gpus:
        if count > 1:
            # As many threads as cores, and one more for each CPU device. A device that waits for the
            # others blocks a thread. By default XLA has one thread per core. If all of them wait, no
            # device makes progress, and XLA aborts after 40 s. Only here: torch's devices are
            # processes, each with its own threads.
            os.environ.setdefault("PJRT_NPROC", str(len(os.sched_getaffinity(0)) + count))
        if count > max(1, jax.config.jax_num_cpu_devices):  # pyrefly: ignore[missing-attribute]
            jax.config.update("jax_num_cpu_devices", count)
        return
    # Slurm may show each task only its own GPUs.
    first = world.local_rank * count if gpus >= world.local_size * count else 0
    if (first, count) != (0, gpus):
        chosen = ",".join(map(str, range(first, first + count)))
        jax.config.update("jax_cuda_visible_devices", chosen)


def _mesh_of(count: int, world: World) -> Mesh:
    """Mesh of the first `count` devices of each process, in the order of the processes.

    Only here: torch's process groups have one device per process.
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
