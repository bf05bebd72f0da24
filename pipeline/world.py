"""The processes of a run: how many, which of them this one is, and where the first can be met.

Known from the environment alone, whoever started them: torchrun (or `pipeline.ranks`, which speaks the
same variables), srun, or a person with JAX's own three variables.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

# torchrun's variables: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What `jax.distributed.initialize` is given where no cluster tells: coordinator, count and index.
BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# srun sets these for the tasks of a step; a batch script by itself is no step.
SRUN = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")

FIRST_PORT, PORTS = 61440, 4096  # of jobs under Slurm: the top of the range for such uses


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Args:
        rank: of this process; the first, 0, writes what must be written once.
        size: how many there are.
        local_rank: of this process among those of its machine.
        local_size: how many there are on its machine.
        address: `host:port` where the first can be met; empty where there is but one.
        origin: who started them: `alone`, `torchrun`, `hand` or `slurm`.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    origin: str = "alone"

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.size // self.local_size

    @property
    def host(self) -> str:
        """Of the first process."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """That the first process listens on."""
        return int(self.address.rpartition(":")[2])


ALONE = World()


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """The processes that this one belongs to.

    Raises:
        UserError: some of a starter's variables are there, and one is missing or no number.
    """
    if set(TORCHRUN[:2]) <= set(environment):
        return _world(environment, TORCHRUN, _of_torchrun)
    if set(BY_HAND) & set(environment):
        return _world(environment, BY_HAND, _by_hand)
    if set(SRUN) <= set(environment) and environment["SLURM_STEP_NUM_TASKS"] != "1":
        return _of_srun(environment)
    return ALONE


def _world(environment: Mapping[str, str], names: tuple[str, ...], read: object) -> World:
    for name in names:
        if name not in environment:
            given = ", ".join(key for key in names if key in environment)
            raise UserError(name, "unset", f"set where {given} is")
    try:
        return read(*(environment[name] for name in names), environment)
    except ValueError as error:
        found = " ".join(f"{name}={environment[name]}" for name in names)
        raise UserError("environment", found, f"whole numbers and host:port ({error})") from error


def _of_torchrun(
    rank: str, size: str, local_rank: str, local_size: str, host: str, port: str, _: object
) -> World:
    address = f"{host}:{int(port)}"
    return World(int(rank), int(size), int(local_rank), int(local_size), address, "torchrun")


def _by_hand(address: str, size: str, rank: str, environment: Mapping[str, str]) -> World:
    """One process to a machine, unless LOCAL_RANK and LOCAL_WORLD_SIZE tell of more."""
    local_rank, local_size = (environment.get(name) for name in TORCHRUN[2:4])
    world = World(int(rank), int(size), int(local_rank or 0), int(local_size or 1), address, "hand")
    if not 0 <= world.rank < world.size or world.port < 1:
        raise ValueError(f"index {rank} of {size} at {address}")
    return world


def _of_srun(environment: Mapping[str, str]) -> World:
    job, nodes, size, rank = (environment[name] for name in SRUN)
    step = environment.get("SLURM_STEP_ID", "0")
    per_node = {_times(part) for part in environment["SLURM_STEP_TASKS_PER_NODE"].split(",")}
    if len(per_node) > 1:
        raise UserError(
            "SLURM_STEP_TASKS_PER_NODE",
            environment["SLURM_STEP_TASKS_PER_NODE"],
            "the same on all nodes",
            "Start with srun --ntasks-per-node=N.",
        )
    port = FIRST_PORT + (int(job) + int(step if step.isdigit() else 0)) % PORTS
    address = f"{first_host(nodes)}:{port}"
    local_rank = int(environment["SLURM_LOCALID"])
    return World(int(rank), int(size), local_rank, per_node.pop(), address, "slurm")


def _times(part: str) -> int:
    """Tasks on a node in Slurm's notation: `2` or, of three nodes, `2(x3)`."""
    return int(part.partition("(")[0])


def first_host(nodes: str) -> str:
    """The first of a list of hosts in Slurm's notation, such as `n[001-015,20],head`."""
    match = re.match(r"([^\[,]*)(?:\[([^\],-]*))?", nodes)
    return match[1] + (match[2] or "")


def common_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """A name that all processes of a run know, if somebody else started them.

    Slurm's stays the same when a job is requeued, so that the run goes on in its folder.
    """
    origin = find_world(environment).origin
    if origin == "slurm":
        return f"slurm-{environment['SLURM_JOB_ID']}.{environment.get('SLURM_STEP_ID', '0')}"
    if origin == "torchrun":
        run = environment.get("TORCHELASTIC_RUN_ID", "none")
        return f"torchrun-{starters_name() if run == 'none' else run}"
    return None


def starters_name() -> str:
    """The process that started this one, told from all others of this machine."""
    starter = os.getppid()
    started = Path(f"/proc/{starter}/stat")
    ticks = started.read_text().rpartition(")")[2].split()[19] if started.exists() else ""
    return f"{starter}-{ticks}"


def alone(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process that is none of the run's, without what tells of them."""
    told = {*TORCHRUN, *BY_HAND}
    return {
        name: value
        for name, value in environment.items()
        if name not in told and not name.startswith(("SLURM_STEP", "SLURM_PROCID", "SLURM_NTASKS"))
    }
