"""Hardware of this machine: processor, memory, threads and GPUs."""

import os
import platform
import re
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.devices.world import ALONE, World
from pipeline.errors import UserError

# NVIDIA's libraries that both frameworks load, each with the packages that may hold it.
CUDA_PACKAGES = {
    "cuda": ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
    "cublas": ("nvidia-cublas", "nvidia-cublas-cu12"),
    "cudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    "nccl": ("nvidia-nccl-cu13", "nvidia-nccl-cu12"),
}

OTHER_GPUS = ("kfd", "nvhost-gpu", "nvgpu")  # device files of AMD, and of NVIDIA's Jetson


def hardware() -> dict[str, object]:
    """Describe the machine for `result.json`: processor, usable cores, memory in GB, system.

    With a GPU, also the versions of its driver and of CUDA's libraries.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"^model name[^:\n]*:(.*)", text, re.MULTILINE)
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **(gpu_software() if gpu_count() else {}),
    }


def gpu_software(driver: Path = Path("/proc/driver/nvidia/version")) -> dict[str, str]:
    """Versions of NVIDIA's driver and of CUDA's libraries, as far as they are known."""
    found = (
        re.search(r"Module[^\n]*?\s(\d+(?:\.\d+)+)", driver.read_text())
        if driver.exists()
        else None
    )
    known = {"driver": found[1]} if found else {}
    for name, packages in CUDA_PACKAGES.items():
        for package in packages:
            try:
                known.setdefault(name, version(package))
            except PackageNotFoundError:
                continue
    return known


def limit_threads(threads: int | None, world: World = ALONE) -> None:
    """Limit this process and its thread pools to some cores; call it before importing a framework.

    OpenMP (torch) and XLA size their pools by the cores that the process may run on. By default the
    ranks on one machine share its cores evenly; Slurm assigns them itself.

    Raises:
        UserError: `threads` exceeds the number of cores.
    """
    # By default waiting OpenMP threads spin, which slows down a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cores = sorted(os.sched_getaffinity(0))
    if threads is not None and threads > (most := max(len(cores), os.cpu_count() or 1)):
        allowed = f"null or at most {most}, the cores of this machine"
        raise UserError("accelerator.threads", threads, allowed)
    if threads is None and world.local_size > 1 and world.launcher != "slurm":
        threads = max(1, len(cores) // world.local_size)
    if threads is not None:
        first = world.local_rank * threads % len(cores)
        os.sched_setaffinity(0, (cores[first:] + cores[:first])[:threads])
        os.environ["OMP_NUM_THREADS"] = str(threads)


def resident_memory_mb() -> float:
    """Peak resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def free_memory(root: Path = Path("/")) -> int:
    """Memory of this machine, or of this process's control group, that is free, in bytes."""
    known = (root / "proc/meminfo").read_text()
    found = [1024 * int(re.search(r"MemAvailable:\s*(\d+)", known)[1])]  # pyrefly: ignore[unsupported-operation] Linux has it
    group = root / "sys/fs/cgroup"
    limit, used = group / "memory.max", group / "memory.current"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        found.append(int(most) - int(used.read_text()))
    return min(found)


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Return whether a framework may find a GPU here: one of NVIDIA, of AMD, or of a Jetson."""
    return bool(gpus(devices)) or any((devices / name).exists() for name in OTHER_GPUS)


def gpu_count() -> int:
    """Number of GPUs that this process may use."""
    return len(gpus())


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """List the NVIDIA GPUs that this process may use, as values for CUDA_VISIBLE_DEVICES.

    No framework is loaded, since it would allocate memory on each GPU. CUDA numbers visible GPUs from 0,
    independent of the device files: in a container that has only /dev/nvidia5, that GPU is CUDA's 0.
    Under WSL2 all GPUs share /dev/dxg, which counts as one.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    count = len(list(devices.glob("nvidia[0-9]*"))) or (devices / "dxg").exists()
    return [str(index) for index in range(count)]
