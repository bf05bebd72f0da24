"""Overhead of Tandem: each backend's training loop beside a bare one by hand in the same framework.

Same model (`cnn`), batch, data and optimizer; the two take turns in one process, and the ratio is of
each pair, so that a machine whose speed drifts does not decide. Evaluation and compilation are left
out on both sides. With `--devices 2` they share the batch between two: torch's DDP in as many processes,
in which again the two loops take turns; JAX's on a mesh.

    python benchmarks/overhead.py [--rounds 5] [--steps 128] [--backend torch,jax] [--devices 1] [OVERRIDE …]
"""

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
BATCH, WARMUP = 128, 32
ROW = "row: "  # how the line begins that a worker leaves for the table


CNN = ["model=cnn", "dataset=synthetic", f"train.batch_size={BATCH}"]


def ours(backend: str, steps: int, devices: int, overrides: list[str], folder: Path) -> float:
    """Samples per second of a real run of the backend, as the recorder of its first process says.

    `overrides` name the model, the data set and the batch size.
    """
    from hydra import compose

    from pipeline.config.experiment import register, typed
    from pipeline.config.hydra_compat import compose_from
    from pipeline.devices.world import find_world
    from pipeline.run.experiment import Job
    from pipeline.run.runner import run
    from pipeline.storage.run_folder import RunFolder

    register()
    with compose_from(ROOT / "conf"):
        config = compose(
            "config",
            [
                f"backend={backend}", "logger=none", f"train.steps={WARMUP + steps}",
                "optimizer=adamw", f"train.log_every={WARMUP}",
                f"train.eval_every={WARMUP + steps}steps",
                f"accelerator.devices={devices}", *overrides,
            ],
        )  # fmt: skip
    world = find_world()
    run(typed(config), Job(folder, backend), world)
    return RunFolder(folder).result.throughput if world.is_main else math.nan


def bare(backend: str, steps: int, devices: int, gpu: bool) -> float:
    """Samples per second of the loop by hand, on the same images."""
    from pipeline.config.datasets import SyntheticConfig
    from pipeline.data import sources

    data = sources.load(SyntheticConfig())
    device = {"torch": "cuda", "jax": "gpu"}[backend] if gpu else "cpu"
    train = importlib.import_module(f"bare_{backend}").train
    images, labels = data.train.fields["image"], data.train.fields["label"]
    return train(images, labels, data.outputs, BATCH, steps, WARMUP, device, devices)


def measure(options: argparse.Namespace) -> dict:
    """Throughputs of both loops, taking turns, and their ratio pair by pair."""
    backend, steps, devices = options.backend, options.steps, options.devices
    pairs = []
    for turn in range(options.rounds + 1):
        hand = bare(backend, steps, devices, options.gpu)
        folder = options.worker / f"{backend}-{turn}"
        pair = (hand, ours(backend, steps, devices, CNN + options.override, folder))
        if turn:  # the first pair warms the machine up
            pairs.append(pair)
    ratios = sorted(own / hand for hand, own in pairs)
    return {
        "backend": backend,
        "bare": median(hand for hand, _ in pairs),
        "tandem": median(own for _, own in pairs),
        "ratio": median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def row_of(backend: str, devices: int) -> dict:
    """Row of `measure` for a backend, run in its own process, or in one per torch device."""
    python = [sys.executable]
    if backend == "torch" and devices > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    with tempfile.TemporaryDirectory() as folder:
        own = ["--worker", folder, "--backend", backend]
        command = [*python, __file__, *sys.argv[1:], *own]
        if devices > 1:  # torchrun would give each a single one, however many cores there are
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // devices)))
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    [row] = [line for line in output.splitlines() if line.startswith(ROW)]
    return json.loads(row.removeprefix(ROW))


def main() -> None:
    """Measure each backend, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="torch,jax", help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=128, help="timed steps in a round")
    parser.add_argument("--gpu", action="store_true", help="the bare loop on the GPU, too")
    parser.add_argument("--devices", type=int, default=1, help="that share the batch")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # where its runs lie
    parser.add_argument("override", nargs="*", help="for the run, such as accelerator=gpu")
    options = parser.parse_args()
    if options.worker:
        row = measure(options)
        if os.environ.get("RANK", "0") == "0":
            print(f"\n{ROW}{json.dumps(row)}")
        return
    devices = f" on {options.devices} devices" if options.devices > 1 else ""
    print(f"samples/s, cnn, batch 128 of 32×32×3{devices}; ratio = median (lowest … highest)")
    for backend in options.backend.split(","):
        row = row_of(backend, options.devices)
        print(
            f"{backend:6} by hand {row['bare']:9,.0f}   tandem {row['tandem']:9,.0f}   "
            f"ratio {row['ratio']:.2f} ({row['lowest']:.2f} … {row['highest']:.2f})"
        )


if __name__ == "__main__":
    main()
