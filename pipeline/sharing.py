"""How the devices of a run share its work, and whether the processes that were started can do it."""

from pipeline.backends import PROCESS_PER_DEVICE
from pipeline.config import AUTO, Config, Kind
from pipeline.errors import UserError
from pipeline.hardware import gpu_count
from pipeline.world import World

STARTERS = "srun, torchrun or hydra/launcher=slurm"


def devices_per_node(config: Config, world: World) -> int:
    """Devices that each machine gives to the run."""
    asked = config.accelerator.devices
    if asked != AUTO:
        return asked
    gpus = 0 if config.accelerator.kind is Kind.cpu else gpu_count()
    if world.size > 1 and (config.backend.name in PROCESS_PER_DEVICE or world.local_size > 1):
        return world.local_size
    return gpus or 1


def nodes(config: Config, world: World) -> int:
    """Machines of the run."""
    asked = config.accelerator.nodes
    return world.nodes if asked == AUTO else asked


def device_count(config: Config, world: World) -> int:
    """Devices of the whole run."""
    return nodes(config, world) * devices_per_node(config, world)


def needs_processes(config: Config, world: World) -> bool:
    """Whether this process, started alone, has to start those that do the work."""
    several = devices_per_node(config, world) > 1
    return world.size == 1 and several and config.backend.name in PROCESS_PER_DEVICE


def check_sharing(config: Config, world: World) -> None:
    """Refuse a number of devices that the batch or the processes at hand do not fit.

    Raises:
        UserError: one of them.
    """
    machines, devices = nodes(config, world), devices_per_node(config, world)
    config.train.check_shared(machines * devices)
    if world.size == 1:
        there = 0 if config.accelerator.kind is Kind.cpu else gpu_count()
        if 0 < there < devices:
            raise UserError(
                "accelerator.devices",
                devices,
                f"at most {there}, the GPUs of this machine",
                "Set accelerator.devices=auto to take them all.",
            )
        if machines > 1:
            raise UserError(
                "accelerator.nodes",
                machines,
                "1 in a process that was started alone",
                f"Several machines need a process on each: use {STARTERS}.",
            )
        return
    if machines != world.nodes:
        raise UserError(
            "accelerator.nodes",
            machines,
            f"{world.nodes}, as the processes were started ({world.size}, {world.local_size} on "
            "each machine)",
            "Set accelerator.nodes=auto to take what there is.",
        )
    one_each = config.backend.name in PROCESS_PER_DEVICE
    if devices % world.local_size or (one_each and devices != world.local_size):
        raise UserError(
            "accelerator.devices",
            devices,
            f"{'' if one_each else 'a multiple of '}{world.local_size}, the processes that were "
            "started on each machine",
            "Set accelerator.devices=auto to take what there is.",
        )
