"""Number of devices of a run, and checks that its batch and its processes fit them."""

from pipeline.backend_specs import BACKENDS
from pipeline.config.accelerator import Kind
from pipeline.config.experiment import Config
from pipeline.devices.hardware import gpu_count
from pipeline.devices.world import World
from pipeline.errors import UserError

LAUNCHERS = "srun, torchrun or hydra/launcher=slurm"


def devices_per_node(config: Config, world: World) -> int:
    """Number of devices of the run on each machine."""
    devices = config.accelerator.devices
    if isinstance(devices, int):
        return devices
    one_each = BACKENDS[config.backend.name].process_per_device
    if world.size > 1 and (one_each or world.local_size > 1):
        return world.local_size
    return usable_gpus(config) or 1


def usable_gpus(config: Config) -> int:
    """Number of GPUs of this machine that the run may use."""
    return 0 if config.accelerator.kind is Kind.cpu else gpu_count()


def nodes(config: Config, world: World) -> int:
    """Number of machines of the run."""
    machines = config.accelerator.nodes
    return machines if isinstance(machines, int) else world.nodes


def device_count(config: Config, world: World) -> int:
    """Number of devices of the whole run."""
    return nodes(config, world) * devices_per_node(config, world)


def must_launch_ranks(config: Config, world: World) -> bool:
    """Return whether this single process must launch one rank per device."""
    several = devices_per_node(config, world) > 1
    return world.size == 1 and several and BACKENDS[config.backend.name].process_per_device


def check_device_count(config: Config, world: World) -> None:
    """Raise a UserError if the devices do not fit the batch, the machine or the processes."""
    machines, devices = nodes(config, world), devices_per_node(config, world)
    config.train.check_shared(machines * devices)
    if world.size == 1:
        if 0 < (gpus := usable_gpus(config)) < devices:
            allowed = f"at most {gpus}, the GPUs of this machine"
            hint = "Set accelerator.devices=auto to take them all."
            raise UserError("accelerator.devices", devices, allowed, hint)
        if machines > 1:
            problem = "this process was started alone"
            hint = f"Several machines need a process on each: use {LAUNCHERS}."
            raise UserError("accelerator.nodes", machines, hint=hint, problem=problem)
        return
    if machines != world.nodes:
        started = f"{world.size}, {world.local_size} on each machine"
        allowed = f"{world.nodes}, as the processes were started ({started})"
        hint = "Set accelerator.nodes=auto to take what there is."
        raise UserError("accelerator.nodes", machines, allowed, hint)
    one_each = BACKENDS[config.backend.name].process_per_device
    if devices % world.local_size or (one_each and devices != world.local_size):
        number = world.local_size if one_each else f"a multiple of {world.local_size}"
        allowed = f"{number}, the processes that were started on each machine"
        hint = "Set accelerator.devices=auto to take what there is."
        raise UserError("accelerator.devices", devices, allowed, hint)
