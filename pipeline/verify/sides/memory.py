"""Estimate of the memory that a check needs, before it is begun."""

from math import prod
from pathlib import Path

from pipeline.errors import UserError
from pipeline.verify.trace.graph import Description

# Measured: 150 bytes for each parameter of both sides, in the three processes (values, gradients and slots of
# the optimizer in float64, the map of elements). Rather too low an estimate than a refusal without need.
BYTES = 100
GIGABYTE = 2**30


def require_memory(left: Description, right: Description, available: float | None = None) -> None:
    """Refuse two models whose check does not fit the memory.

    Raises:
        UserError: they have too many parameters.
    """
    free = available_memory() if available is None else available
    counts = [sum(prod(array.shape) for array in side.arrays) for side in (left, right)]
    needed = BYTES * sum(counts)
    if needed <= free:
        return
    sizes = " and ".join(f"{count / 1e6:,.0f}" for count in counts)
    problem = (
        f"left and right have {sizes} million parameters: their check needs about "
        f"{needed / GIGABYTE:,.0f} GB of memory, {free / GIGABYTE:,.0f} GB are free"
    )
    hint = "Make both smaller, with fewer or narrower layers: a mistake shows there, too."
    raise UserError("--options", "…", problem=problem, hint=hint)


def available_memory(system: Path = Path("/")) -> float:
    """Return the free memory in bytes: of the machine, or what its control group leaves; inf if unknown."""
    found = [float("inf")]
    info = system / "proc/meminfo"
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        if "MemAvailable" in fields:
            found.append(1024 * float(fields["MemAvailable"].split()[0]))
    group = system / "sys/fs/cgroup"
    try:
        limit, used = (
            (group / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        found += [float(limit) - float(used)] if limit != "max" else []
    except OSError:  # no control groups, or not of version 2
        pass
    return min(found)
