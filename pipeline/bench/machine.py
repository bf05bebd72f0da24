"""The machine of a benchmark: the precisions that it is good at, and its free memory."""

import re
import subprocess
from math import inf
from pathlib import Path


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor multiplies bfloat16 by itself (AVX-512, AMX, or Arm's)."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    return bool(flags and {"avx512_bf16", "amx_bf16", "bf16"} & set(flags[1].split()))


def compute_capability() -> float:
    """Return the lowest compute capability of the GPUs; from 8.0 on they have tf32 and bf16.

    No framework is loaded. A driver that does not tell is taken for a new one.
    """
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return min(map(float, found.stdout.split()), default=inf)
    except (OSError, ValueError, subprocess.SubprocessError):
        return inf


def lacks(precision: str, on_gpu: bool) -> bool:
    """Return whether the device has no instructions for the products of a precision."""
    if precision not in ("tf32", "bf16"):
        return False
    if on_gpu:
        return compute_capability() < 8
    return precision == "tf32" or not cpu_has_bf16()


def free_memory_mb(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Return the memory of this machine that processes may still take, in MB; infinity if not known."""
    text = meminfo.read_text() if meminfo.exists() else ""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    free = int(found[1]) / 1024 if found else inf
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    try:
        return min(free, (int(limit.read_text()) - int(used.read_text())) / 2**20)
    except (OSError, ValueError):  # no such files, or no limit
        return free
