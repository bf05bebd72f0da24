"""The machine that a run is on, as its result file tells it."""

import os
import platform
import resource
from pathlib import Path

from pipeline.world import ALONE, World


def hardware() -> dict[str, object]:
    """Processor, usable cores, memory in GB, system."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bound_threads(threads: int | None, world: World = ALONE) -> None:
    """Keep this process and its thread pools to so many cores; before a framework is imported.

    OpenMP (torch) and XLA both size their pools by the cores that the process may run on. The ranks
    of a run on one machine share its cores evenly; those of Slurm have been given theirs.
    """
    # By default waiting OpenMP threads spin, which on a busy machine costs more than it gains.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cores = sorted(os.sched_getaffinity(0))
    if threads is None and world.local_size > 1 and world.origin != "slurm":
        threads = max(1, len(cores) // world.local_size)
    if threads is not None:
        first = world.local_rank * threads % len(cores)
        os.sched_setaffinity(0, (cores[first:] + cores[:first])[:threads])
        os.environ["OMP_NUM_THREADS"] = str(threads)


def resident_memory_mb() -> float:
    """The highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu_is_there() -> bool:
    """Whether the machine has an Nvidia GPU, known without loading a framework."""
    return bool(gpus())


def gpu_count() -> int:
    """GPUs that this process may use."""
    return len(gpus())


def gpus() -> list[str]:
    """The Nvidia GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Known without loading a framework, which would take some memory of each.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    files = Path("/dev").glob("nvidia[0-9]*")
    return sorted((file.name.removeprefix("nvidia") for file in files), key=int)
