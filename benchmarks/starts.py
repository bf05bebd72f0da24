"""Time that commands take to start: to the first step, and for each further job of a sweep.

The jobs are of a moment's training, so that what is left is the price of a process:

- to the first step: from the command line to the row that a single command logs after its first step, as
  `metrics.jsonl` tells: rows hold the seconds of the run, and the file's time is that of its last row
- per command: from the command line to its end, with evaluation, test, checkpoints and result
- per further job: of a sweep of `--jobs` beside one of two, by the number of jobs that it has more; the
  sweep's own start and its comparison are in both
- rest of a sweep: what its start, its first jobs' programs and its comparison take

All have run before, so that files are in memory and JAX's programs are compiled. They take turns, and the
figures are medians with their ranges. Nothing else may run on the machine.

    python benchmarks/starts.py [--rounds 5] [--jobs 8] [--backend torch,jax] [OVERRIDE …]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

RUN = Path(__file__).resolve().parent.parent / "run.py"
SHORT = ("model=linear", "train.steps=10", "train.log_every=1", "logger=none", "accelerator=cpu")
FEWEST = 2  # jobs of the shorter sweep


@dataclass(frozen=True)
class Round:
    """Seconds of one single command, to its first step and to its end, and of two sweeps."""

    first_step: float
    command: float
    short_sweep: float
    long_sweep: float


def seconds(folder: Path, *arguments: str) -> float:
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


def time_of_first_step(run: Path) -> float:
    """Return the time, as `time.time`, at which a run logged its first step."""
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return path.stat().st_mtime - (rows[-1]["perf/seconds"] - rows[0]["perf/seconds"])


def measure(folder: Path, arguments: Sequence[str], number: int, jobs: int) -> Round:
    """Run a single command and the two sweeps."""
    name, started = f"single-{number}", time.time()
    command = seconds(folder, *arguments, f"name={name}")
    first_step = time_of_first_step(folder / "outputs" / name) - started
    sweeps = (
        seconds(folder, "-m", *arguments, f"name=sweep-{number}-{size}", f"seed=range({size})")
        for size in (FEWEST, jobs)
    )
    return Round(first_step, command, *sweeps)


def shown(values: Sequence[float]) -> str:
    """Return the median of values and their range."""
    return f"{median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def main() -> None:
    """Print a row for each backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of measurements")
    parser.add_argument("--jobs", type=int, default=8, help="of the longer sweep")
    parser.add_argument("--backend", default="torch,jax", help="separated by commas")
    parser.add_argument("overrides", nargs="*", help="of the experiment")
    options = parser.parse_args()
    if options.jobs <= FEWEST:
        parser.error(f"--jobs must be more than {FEWEST}")
    print("| s | to the first step | per command | per further job of a sweep | rest of a sweep |")
    print("|---|---|---|---|---|")
    for backend in options.backend.split(","):
        arguments = f"backend={backend}", *options.overrides
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), arguments, 0, FEWEST + 1)  # so that files and programs are warm
            rounds = [
                measure(Path(name), arguments, number, options.jobs)
                for number in range(1, options.rounds + 1)
            ]
        per_job = [(one.long_sweep - one.short_sweep) / (options.jobs - FEWEST) for one in rounds]
        rest = [one.short_sweep - FEWEST * job for one, job in zip(rounds, per_job, strict=True)]
        columns = [one.first_step for one in rounds], [one.command for one in rounds], per_job, rest
        print(f"| {backend} | {' | '.join(map(shown, columns))} |", flush=True)


if __name__ == "__main__":
    main()
