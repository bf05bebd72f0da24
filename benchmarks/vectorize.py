"""Time of a sweep over seeds whose jobs train in one program, beside the same sweep one by one.

Both sides start from the command and end with the comparison; they take turns, after one short sweep of
each, so that files are warm and JAX's programs are compiled. The ratios are of each pair: by the clock, and
by the seconds of the processor that all processes of a command use, which other work on the machine hardly
changes.

    python benchmarks/vectorize.py [--rounds 3] [--jobs 32] [--backend jax] [--models mlp,cnn] [OVERRIDE …]
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

RUN = Path(__file__).resolve().parent.parent / "run.py"
COMMON = ("logger=none", "accelerator=cpu")
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


class Cost(NamedTuple):
    """Seconds of a command: by the clock, and of the processor, of all its processes."""

    wall: float
    processor: float


def adopt_orphans() -> None:
    """Become the parent of what outlives its own: the server of a sweep, whose jobs count with it."""
    if ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError(
            "this kernel does not hand over orphans: seconds of the processor are unknown"
        )


def processor_seconds() -> float:
    """Seconds that all processes which have ended here have used; it waits for those that are left."""
    with suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: str, *arguments: str, jobs: int) -> Cost:
    """Return what a sweep over so many seeds costs."""
    before, started = processor_seconds(), time.perf_counter()
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    subprocess.run(
        [sys.executable, str(RUN), "-m", *arguments, seeds, *COMMON],
        cwd=folder,
        env=os.environ | {"TANDEM_PROGRESS": "plain"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - started
    return Cost(wall, processor_seconds() - before)


def compare(arguments: list[str], jobs: int, rounds: int) -> list[tuple[Cost, Cost]]:
    """Return what the jobs cost at once and one by one, in each round."""
    with tempfile.TemporaryDirectory() as folder:
        measure(folder, *arguments, "train.epochs=1", "sweep.vectorize=true", jobs=jobs)
        measure(folder, *arguments, "train.epochs=1", "sweep.vectorize=false", jobs=2)
        pairs = []
        for number in range(rounds):
            name = f"name=round{number}"
            at_once, one_by_one = (
                measure(folder, *arguments, f"{name}_{on}", f"sweep.vectorize={on}", jobs=jobs)
                for on in ("true", "false")
            )
            pairs.append((at_once, one_by_one))
    return pairs


def ratio(pairs: list[tuple[float, float]]) -> str:
    """Return median and range of the ratios of pairs."""
    ratios = sorted(one / other for one, other in pairs)
    return f"{median(ratios):.3f} ({ratios[0]:.3f} … {ratios[-1]:.3f})"


def main() -> None:
    """Print a row for each backend and model: medians, and the median and range of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements")
    parser.add_argument("--jobs", type=int, default=32, help="of each sweep")
    parser.add_argument("--backend", default="jax", help="separated by commas")
    parser.add_argument("--models", default="mlp,cnn", help="separated by commas")
    parser.add_argument("overrides", nargs="*", help="of the experiment")
    options = parser.parse_args()
    adopt_orphans()
    columns = [
        "backend", "model", f"s, {options.jobs} at once", "s, one by one", "ratio",
        "CPU s, at once", "CPU s, one by one", "ratio of CPU s",
    ]  # fmt: skip
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for backend in options.backend.split(","):
        for model in options.models.split(","):
            arguments = [f"backend={backend}", f"model={model}", *options.overrides]
            pairs = compare(arguments, options.jobs, options.rounds)
            cells = [backend, model]
            for kind in ("wall", "processor"):
                own = [(getattr(one, kind), getattr(other, kind)) for one, other in pairs]
                cells += [f"{median(side):.1f}" for side in zip(*own, strict=True)]
                cells.append(ratio(own))
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
