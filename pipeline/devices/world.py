"""The processes of a run: world size, rank of this process and address of rank 0.

Read from the environment variables of torchrun (which `devices.launch_ranks` sets too), of srun, or
the three of JAX for processes started manually.
"""

import fcntl
import os
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

# torchrun's variables: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
# `_from_torchrun` and `launch_ranks` rely on this order.
LOCAL_VARIABLES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", *LOCAL_VARIABLES, "MASTER_ADDR", "MASTER_PORT")
# Arguments of `jax.distributed.initialize` outside a cluster: coordinator, count and index.
JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Set by srun for the tasks of a step, but not in a batch script.
SRUN_VARIABLES = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")

FIRST_PORT, PORTS = 61440, 4096  # ports chosen here: the upper end of the dynamic ports


@dataclass(frozen=True)
class World:
    """Processes of a run, and the rank of this one.

    Args:
        rank: rank of this process; rank 0 writes the files of the run.
        size: world size.
        local_rank: rank among the processes of this machine.
        local_size: number of processes on this machine.
        address: `host:port` of rank 0; empty for a single process.
        launcher: `none`, `torchrun`, `manual` or `slurm`.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    launcher: str = "none"

    @property
    def is_main(self) -> bool:
        """True for rank 0, which prints and writes for all ranks."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.size // self.local_size

    @property
    def host(self) -> str:
        """Host of rank 0."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """Port that rank 0 listens on."""
        return int(self.address.rpartition(":")[2])

    @property
    def coordinator(self) -> str:
        """`host:port` of JAX's coordinator; under torchrun another port, because its own store has `port`."""
        if self.launcher != "torchrun":
            return self.address
        return f"{self.host}:{_derive_port(self.port + 1)}"

    def describe(self, device: str, count: int) -> str:
        """Describe all devices of a run, `count` of one kind."""
        devices = f"{count} × " if count > 1 else ""
        machines = f" ({self.nodes} machines)" if self.nodes > 1 else ""
        return f"{devices}{device}{machines}"


ALONE = World()


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """Read the processes of this run from the environment.

    Raises:
        UserError: one of a launcher's variables is missing or invalid.
    """
    if {"RANK", "WORLD_SIZE"} <= set(environment):
        names, read = TORCHRUN_VARIABLES, _from_torchrun
    elif set(JAX_VARIABLES) & set(environment):
        names, read = JAX_VARIABLES, _from_jax_variables
    elif set(SRUN_VARIABLES) <= set(environment) and environment["SLURM_STEP_NUM_TASKS"] != "1":
        return _from_srun(environment)
    else:
        return ALONE
    for name in names:
        if name not in environment:
            others = ", ".join(key for key in names if key in environment)
            raise UserError(name, "unset", problem=f"it is not set, and {others} is")
    try:
        return read(environment)
    except ValueError as error:
        values = " ".join(f"{name}={environment[name]}" for name in names)
        problem = f"it needs whole numbers and host:port ({error})"
        raise UserError("environment", values, problem=problem) from error


def _from_torchrun(environment: Mapping[str, str]) -> World:
    *processes, host, port = (environment[name] for name in TORCHRUN_VARIABLES)
    rank, size, local_rank, local_size = map(int, processes)
    return World(rank, size, local_rank, local_size, f"{host}:{int(port)}", "torchrun")


def _from_jax_variables(environment: Mapping[str, str]) -> World:
    """Read JAX's variables: one process per machine unless LOCAL_RANK and LOCAL_WORLD_SIZE are set."""
    address, size, rank = (environment[name] for name in JAX_VARIABLES)
    local_rank, local_size = (environment.get(name) for name in LOCAL_VARIABLES)
    world = World(
        int(rank), int(size), int(local_rank or 0), int(local_size or 1), address, "manual"
    )
    if not 0 <= world.rank < world.size or world.port < 1:
        raise ValueError(f"index {rank} of {size} at {address}")
    return world


def _from_srun(environment: Mapping[str, str]) -> World:
    job, nodes, size, rank = (environment[name] for name in SRUN_VARIABLES)
    step = environment.get("SLURM_STEP_ID", "0")
    tasks = environment["SLURM_STEP_TASKS_PER_NODE"]  # such as "2(x3)": 2 on each of 3 nodes
    per_node = {int(part.partition("(")[0]) for part in tasks.split(",")}
    if len(per_node) > 1:
        problem = "all nodes need the same number of tasks"
        hint = "Start with srun --ntasks-per-node=N."
        raise UserError("SLURM_STEP_TASKS_PER_NODE", tasks, hint=hint, problem=problem)
    port = _derive_port(int(job) + int(step if step.isdigit() else 0))
    address = f"{first_host(nodes)}:{port}"
    local_rank = int(environment["SLURM_LOCALID"])
    return World(int(rank), int(size), local_rank, per_node.pop(), address, "slurm")


def _derive_port(number: int) -> int:
    """Port that all processes derive from a number that they share."""
    return FIRST_PORT + number % PORTS


def first_host(nodes: str) -> str:
    """First of a list of hosts in Slurm's notation, such as `n[001-015,20],head`."""
    return "".join(re.findall(r"^([^\[,]*)(?:\[([^\],-]*))?", nodes)[0])


def network_interface(host: str) -> str | None:
    """Name of the network interface that reaches `host`, for GLOO_SOCKET_IFNAME.

    By default gloo listens on the address of the local host name, which many machines resolve to
    127.0.1.1, unreachable from other machines. None for a loopback address or without a route.
    """
    if host == "localhost" or host.startswith("127."):
        return None
    address = _local_address(host)
    if address is None or address.startswith("127."):
        address = _local_address("192.0.2.1")  # reserved, so the default route; nothing is sent
    names = (name for _, name in socket.if_nameindex())
    return next((name for name in names if address and _address_of(name) == address), None)


def _local_address(host: str) -> str | None:
    """Local IPv4 address on the route to a host; None if there is no route."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return probe.getsockname()[0]


def _address_of(interface: str) -> str | None:
    """IPv4 address of a network interface; None if it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR


def shared_run_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """Run name that all processes derive from their launcher; None without one.

    Under Slurm it stays the same when a job is requeued, so that the run resumes in its folder.
    """
    launcher = find_world(environment).launcher
    if launcher == "slurm":
        return f"slurm-{environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', '0')}"
    if launcher == "torchrun":
        run = environment.get("TORCHELASTIC_RUN_ID", "none")
        return f"torchrun-{_parent_process() if run == 'none' else run}"
    return None


def _parent_process() -> str:
    """Unique name of the parent process on this machine: its id and start time."""
    parent = os.getppid()
    stat = Path(f"/proc/{parent}/stat")
    ticks = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else ""
    return f"{parent}-{ticks}"


def single_process_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment for a process outside the run: without the variables of its launcher."""
    removed = {*TORCHRUN_VARIABLES, *JAX_VARIABLES}
    prefixes = ("SLURM_STEP", "SLURM_PROCID", "SLURM_NTASKS")
    kept = (name for name in environment if name not in removed and not name.startswith(prefixes))
    return {name: environment[name] for name in kept}
