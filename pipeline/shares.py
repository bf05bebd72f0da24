"""What of this machine a job of a local sweep gets: GPUs and cores that no other job has meanwhile."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from omegaconf import OmegaConf

from pipeline.config import AUTO, Config, Kind
from pipeline.hardware import gpus
from pipeline.leases import leased
from pipeline.sharing import devices_per_node, needs_processes
from pipeline.world import ALONE

MEMORY_OF_A_JOB = 2.0  # GB: a framework, its compiled programs and a small model


@dataclass(frozen=True)
class Share:
    """A part of the machine.

    Args:
        environment: for the process of the job.
        cores: that it may run on; None for all.
        descriptors: for it to inherit, so that the share is taken for as long as it lives.
    """

    environment: dict[str, str] = field(default_factory=dict)
    cores: Sequence[int] | None = None
    descriptors: Sequence[int] = ()


@contextmanager
def share(
    config: Config,
    jobs: int | None,
    given_up: Callable[[], bool],
    tell: Callable[[str], None],
) -> Iterator[Share | None]:
    """Hold what a job needs, waiting until it is free; None if the sweep was stopped meanwhile.

    Args:
        config: of the job.
        jobs: that the launcher runs at a time; None for one after the other.
        given_up: whether the sweep was stopped.
        tell: says what is waited for.
    """
    all_gpus, all_cores = gpus(), [str(core) for core in sorted(os.sched_getaffinity(0))]
    on_gpus = gpus_needed(config, len(all_gpus))
    on_cores = cores_needed(config, jobs, len(all_cores))

    def wait_for(count: int, kind: str, names: Sequence[str]) -> Callable[[], None]:
        return lambda: tell(f"waits for {count} of the {kind}s {', '.join(names)}: others use them")

    with (
        leased("gpu", all_gpus, on_gpus, given_up, wait_for(on_gpus, "GPU", all_gpus)) as devices,
        leased(
            "core", all_cores, on_cores, given_up, wait_for(on_cores, "core", all_cores)
        ) as mine,
    ):
        if devices is None or mine is None:
            yield None
            return
        yield Share(
            {"CUDA_VISIBLE_DEVICES": ",".join(devices.names)} if on_gpus else {},
            [int(core) for core in mine.names] if on_cores else None,
            [*devices.descriptors, *mine.descriptors],
        )


def gpus_needed(config: Config, there: int) -> int:
    """GPUs that a job takes. One that wants more than there are is not held up, and says so itself."""
    asked = config.accelerator.devices
    if config.accelerator.kind is Kind.cpu or (asked != AUTO and asked > there):
        return 0
    return there if asked == AUTO else asked


def cores_needed(config: Config, jobs: int | None, there: int) -> int:
    """Cores that a job takes for its own: what it was told to, or an even share; 0 for all, shared."""
    threads = config.accelerator.threads
    if threads is not None:
        processes = devices_per_node(config, ALONE) if needs_processes(config, ALONE) else 1
        return min(threads * processes, there)
    if jobs is None or jobs == 1:
        return 0
    return max(
        1, there // (jobs if jobs > 0 else there + 1 + jobs)
    )  # joblib: -1 is one for each core


def parallel_jobs(kind: str, devices: int | str) -> int:
    """How many jobs to run at a time on this machine.

    One for each GPU or group of GPUs. Without, one for each core: one thread does most work where
    models are small; but no more than there is memory for.
    """
    there = 0 if kind == Kind.cpu.name else len(gpus())
    if there:
        return 1 if devices == AUTO else max(1, there // int(devices))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(len(os.sched_getaffinity(0)), int(memory / MEMORY_OF_A_JOB)))


OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)
