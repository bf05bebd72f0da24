"""Time of a sweep over seeds whose jobs train in one program, beside the same sweep one by one.

Both sides start from the command and end with the comparison; they take turns, after one short sweep of
each, so that files are warm and JAX's programs are compiled. The ratio is of each pair. Seconds of the
processor, of all processes, count what a busy machine hides.

    python benchmarks/vectorize.py [--rounds 3] [--jobs 32] [--backend jax] [--models mlp,cnn] [OVERRIDE …]
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
COMMON = ("logger=none", "accelerator=cpu")


def measure(folder: str, *arguments: str, jobs: int) -> float:
    """Seconds of a sweep over so many seeds."""
    started = time.perf_counter()
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    subprocess.run(
        [sys.executable, str(RUN), "-m", *arguments, seeds, *COMMON],
        cwd=folder,
        env=os.environ | {"TANDEM_PROGRESS": "plain"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def main() -> None:
    """Print a row for each backend and model: medians, and the median and range of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of measurements")
    parser.add_argument("--jobs", type=int, default=32, help="of each sweep")
    parser.add_argument("--backend", default="jax", help="separated by commas")
    parser.add_argument("--models", default="mlp,cnn", help="separated by commas")
    parser.add_argument("overrides", nargs="*", help="of the experiment")
    options = parser.parse_args()
    print(
        f"| backend | model | s, {options.jobs} at once | s, one by one | ratio | ratio of CPU s |"
    )
    print("|---|---|---|---|---|---|")
    for backend in options.backend.split(","):
        for model in options.models.split(","):
            arguments = f"backend={backend}", f"model={model}", *options.overrides
            pairs = []
            with tempfile.TemporaryDirectory() as folder:
                for warm in ("true", "false"):
                    short = "train.epochs=1", f"sweep.vectorize={warm}"
                    measure(folder, *arguments, *short, jobs=options.jobs if warm == "true" else 2)
                for _ in range(options.rounds):
                    sides = [
                        measure(folder, *arguments, f"sweep.vectorize={on}", jobs=options.jobs)
                        for on in ("true", "false")
                    ]
                    pairs.append(sides)
            ours, alone = (median(side) for side in zip(*pairs, strict=True))
            ratios = sorted(one / other for one, other in pairs)
            print(
                f"| {backend} | {model} | {ours:.1f} | {alone:.1f} "
                f"| {median(ratios):.3f} ({ratios[0]:.3f} … {ratios[-1]:.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
