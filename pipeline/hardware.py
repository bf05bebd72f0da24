"""The machine that a run is on, as its result file tells it."""

import os
import platform
import resource
from pathlib import Path


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


def bound_threads(threads: int | None) -> None:
    """Keep this process and its thread pools to so many cores; before a framework is imported.

    OpenMP (torch) and XLA both size their pools by the cores that the process may run on.
    """
    # By default waiting OpenMP threads spin, which on a busy machine costs more than it gains.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])
        os.environ["OMP_NUM_THREADS"] = str(threads)


def resident_memory_mb() -> float:
    """The highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu_is_there() -> bool:
    """Whether the machine has an Nvidia GPU, known without loading a framework."""
    return Path("/dev/nvidia0").exists()
