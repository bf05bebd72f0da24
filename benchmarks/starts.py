"""Time that a sweep job takes to start and end, beside the same jobs as single commands.

The jobs are of a moment's training, so that what is left is the price of a process. Both sides have run
before, so that JAX's programs are compiled; they take turns, and the ratio is of each pair.

    python benchmarks/starts.py [--rounds 5] [--jobs 6] [--backend torch,jax] [OVERRIDE …]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

RUN = Path(__file__).resolve().parent.parent / "run.py"
SHORT = ("model=linear", "train.steps=10", "logger=none", "accelerator=cpu")


def seconds(folder: str, *arguments: str) -> float:
    """Duration of a command."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, str(RUN), *arguments, *SHORT],
        cwd=folder,
        env=os.environ | {"TANDEM_PROGRESS": "plain"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def pair(folder: str, *arguments: str, jobs: int) -> tuple[float, float]:
    """Seconds for each job: of the sweep, its comparison included, and of a command of its own."""
    seeds = range(jobs)
    sweep = seconds(folder, "-m", *arguments, f"seed={','.join(map(str, seeds))}")
    alone = [seconds(folder, *arguments, f"seed={seed}") for seed in seeds]
    return sweep / jobs, sum(alone) / jobs


def main() -> None:
    """Print a row for each backend: medians, and the median and range of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements")
    parser.add_argument("--jobs", type=int, default=6, help="of the sweep")
    parser.add_argument("--backend", default="torch,jax", help="separated by commas")
    parser.add_argument("overrides", nargs="*", help="of the experiment")
    options = parser.parse_args()
    print(f"| backend | s per job of a sweep of {options.jobs} | s per command | ratio |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for backend in options.backend.split(","):
            arguments = f"backend={backend}", *options.overrides
            seconds(folder, *arguments)
            pairs = [pair(folder, *arguments, jobs=options.jobs) for _ in range(options.rounds)]
            ours, alone = (median(side) for side in zip(*pairs, strict=True))
            ratios = sorted(one / other for one, other in pairs)
            print(
                f"| {backend} | {ours:.2f} | {alone:.2f} "
                f"| {median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f}) |"
            )


if __name__ == "__main__":
    main()
