"""What Tandem costs: each backend's training loop beside a bare one by hand in the same framework.

Same model (`cnn`), batch, data and optimizer; the two take turns in one process, and the ratio is of
each pair, so that a machine whose speed drifts does not decide. Evaluation and compilation are left
out on both sides.

    python benchmarks/overhead.py [--rounds 5] [--steps 128] [--backend torch,jax] [OVERRIDE …]
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
BATCH, WARMUP = 128, 32


def ours(backend: str, steps: int, overrides: list[str]) -> float:
    """Samples per second of a real run of the backend, as its recorder measures it."""
    from hydra import compose, initialize_config_dir

    from pipeline.config import register, typed
    from pipeline.experiment import Job, run
    from pipeline.runs import RunFolder

    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose(
            "config",
            [
                f"backend={backend}", "model=cnn", "dataset=synthetic", "logger=none",
                f"train.batch_size={BATCH}", f"train.steps={WARMUP + steps}", "optimizer=adamw",
                f"train.log_every={WARMUP}", f"train.eval_every={WARMUP + steps}steps", *overrides,
            ],
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run(typed(config), Job(Path(folder) / "run", backend))
        return RunFolder(Path(folder) / "run").result["throughput"]


def bare(backend: str, steps: int, gpu: bool) -> float:
    """Samples per second of the loop by hand, on the same images."""
    from pipeline import datasets
    from pipeline.config import SyntheticConfig

    data = datasets.load(SyntheticConfig())
    device = {"torch": "cuda", "jax": "gpu"}[backend] if gpu else "cpu"
    train = importlib.import_module(f"bare_{backend}").train
    return train(data.train.inputs, data.train.targets, data.outputs, BATCH, steps, WARMUP, device)


def measure(backend: str, rounds: int, steps: int, gpu: bool, overrides: list[str]) -> dict:
    """Throughputs of both loops, taking turns, and their ratio pair by pair."""
    pairs = []
    for turn in range(rounds + 1):
        pair = (bare(backend, steps, gpu), ours(backend, steps, overrides))
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


def main() -> None:
    """Measure each backend in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="torch,jax", help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=128, help="timed steps in a round")
    parser.add_argument("--gpu", action="store_true", help="the bare loop on the GPU, too")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("override", nargs="*", help="for the run, such as accelerator=gpu")
    options = parser.parse_args()
    arguments = (options.rounds, options.steps, options.gpu, options.override)
    if options.json:
        print("\n" + json.dumps(measure(options.backend, *arguments)))
        return
    print("samples/s, cnn, batch 128 of 32×32×3; ratio = median over rounds (lowest … highest)")
    for backend in options.backend.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--json", "--backend", backend]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(output.splitlines()[-1])
        print(
            f"{backend:6} by hand {row['bare']:9,.0f}   tandem {row['tandem']:9,.0f}   "
            f"ratio {row['ratio']:.2f} ({row['lowest']:.2f} … {row['highest']:.2f})"
        )


if __name__ == "__main__":
    main()
