"""The GPUs and cores that a job of a local sweep holds while it runs."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.config.accelerator import AUTO, Kind
from pipeline.config.experiment import Config
from pipeline.config.hydra_compat import register_resolver
from pipeline.devices.device_count import devices_per_node, must_launch_ranks
from pipeline.devices.hardware import gpus
from pipeline.devices.world import ALONE
from pipeline.sweep.processes.file_locks import acquire

MEMORY_OF_A_JOB = 2.0  # GB: a framework, its compiled programs and a small model


@dataclass(frozen=True)
class Allocation:
    """GPUs and cores of one job, for its process.

    The process runs on `cores` (None for all), and holds the locks whose descriptors it inherits.
    """

    environment: dict[str, str]
    cores: Sequence[int] | None
    descriptors: Sequence[int]


@contextmanager
def allocate(
    config: Config,
    jobs: int | None,
    is_stopped: Callable[[], bool],
    report: Callable[[str], None],
) -> Generator[Allocation | None]:
    """Wait for the GPUs and cores of a job and hold them; None if the sweep was stopped meanwhile.

    `jobs` is the number of jobs that the launcher runs at a time (None for one). `report` receives a
    message if the job has to wait.
    """
    all_gpus, all_cores = gpus(), [str(core) for core in sorted(os.sched_getaffinity(0))]
    n_gpus = gpus_needed(config, len(all_gpus))
    n_cores = cores_needed(config, jobs, len(all_cores))
    with (
        acquire("GPU", all_gpus, n_gpus, is_stopped, report) as devices,
        acquire("core", all_cores, n_cores, is_stopped, report) as cores,
    ):
        if devices is None or cores is None:
            yield None
            return
        yield Allocation(
            {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if n_gpus else {},
            [int(core) for core in cores] if n_cores else None,
            [*devices.values(), *cores.values()],
        )


def gpus_needed(config: Config, available: int) -> int:
    """Count the GPUs of a job; 0 if too few exist: the job then fails with its own error."""
    devices = config.accelerator.devices
    if config.accelerator.kind is Kind.cpu:
        return 0
    if not isinstance(devices, int):  # auto
        return available
    return devices if devices <= available else 0


def cores_needed(config: Config, jobs: int | None, available: int) -> int:
    """Count the cores to reserve: a job's threads, or equally many per job; 0 if jobs share all cores."""
    threads = config.accelerator.threads
    if threads is not None:
        processes = devices_per_node(config, ALONE) if must_launch_ranks(config, ALONE) else 1
        return min(threads * processes, available)
    if jobs is None or jobs == 1:
        return 0
    if jobs < 0:  # joblib: -1 is one for each core, -2 one fewer
        jobs = available + 1 + jobs
    return max(1, available // jobs)


def parallel_jobs(kind: str, devices: int | str) -> int:
    """Return the number of jobs to run at a time on this machine.

    One for each GPU or group of GPUs. Without GPUs one for each core, since a small model mostly uses
    one thread, but not more than fit into memory.
    """
    available = 0 if kind == Kind.cpu.name else len(gpus())
    if available:
        return 1 if devices == AUTO else max(1, available // int(devices))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(len(os.sched_getaffinity(0)), int(memory / MEMORY_OF_A_JOB)))


register_resolver("parallel_jobs", parallel_jobs)
