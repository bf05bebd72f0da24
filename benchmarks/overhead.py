"""Overhead of Tandem: each backend's training loop beside a bare one by hand in the same framework.

Same model, batch, data and optimizer; the two take turns in one process, and the ratio is of each pair,
so that a machine whose speed drifts does not decide. Its median is given with the lowest and highest, which
for six rounds are a 97 % interval of the median. Evaluation and compilation are left out on both sides. With
`--devices 2` they share the batch between two: torch's DDP in as many processes, in which again the two loops
take turns; JAX's on a mesh.

    python benchmarks/overhead.py [--case cnn] [--rounds 6] [--steps N] [--backend torch,jax] [--devices 1]
        [OVERRIDE …]

The cases are those of `CASES`, or `all` of them; on a GPU (`--gpu accelerator=gpu`) also those of `LARGE`.
"""

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import hydra
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.config.experiment import Config, register, typed  # noqa: E402
from pipeline.config.hydra_compat import compose_from  # noqa: E402
from pipeline.config.own_datasets import TokensConfig  # noqa: E402
from pipeline.config.train import Precision  # noqa: E402
from pipeline.data import sources  # noqa: E402
from pipeline.devices.world import find_world  # noqa: E402
from pipeline.run.experiment import Job  # noqa: E402
from pipeline.run.runner import run  # noqa: E402
from pipeline.storage.run_folder import RunFolder  # noqa: E402

WARMUP = 32  # steps, or as many as are timed
ROW = "row: "  # how the line begins that a worker leaves for the table
TOKENS, VOCABULARY, LENGTH = 1_000_000, 512, 128


@dataclass(frozen=True)
class Case:
    """A model and its data."""

    overrides: tuple[str, ...]
    batch: int
    steps: int  # timed in a round
    says: str


CASES = {
    "cnn": Case(("model=cnn", "dataset=synthetic"), 128, 128, "of 32×32×3"),
    "digits": Case(("model=cnn", "dataset=digits"), 32, 1024, "of 8×8, the step of `make run`"),
    "resnet18": Case(("model=resnet18", "dataset=synthetic"), 16, 16, "of 32×32×3"),
    "vit_tiny": Case(
        ("model=vit_tiny", "model.patch=4", "dataset=synthetic"), 16, 16, "of 32×32×3, 64 patches"
    ),
    "gpt": Case(
        ("model=gpt", "model.width=128", "model.depth=2", "model.heads=4", "dataset=tokens",
         "dataset.path=TOKENS", "dataset.dtype=uint16", f"dataset.length={LENGTH}"),
        16, 32, f"of {LENGTH} tokens out of a memory-mapped file, width 128",
    ),
}  # fmt: skip
# For `--gpu`, of the sizes that fill one.
LARGE = {
    "resnet18_large": Case(("model=resnet18", "dataset=synthetic"), 512, 128, "of 32×32×3"),
    "vit_small": Case(
        ("model=vit_small", "dataset=synthetic", "dataset.shape=[224,224,3]",
         "dataset.samples=2048"),
        64, 64, "of 224×224×3",
    ),
    "gpt2": Case(
        ("model=gpt2", "dataset=tokens", "dataset.path=TOKENS", "dataset.dtype=uint16",
         "dataset.length=1024"),
        16, 32, "of 1,024 tokens out of a memory-mapped file",
    ),
}  # fmt: skip


def compose(backend: str, case: Case, overrides: Sequence[str] = ()) -> Config:
    """Compose the experiment of a case."""
    register()
    with compose_from(ROOT / "conf"):
        batch = f"train.batch_size={case.batch}"
        every = [f"backend={backend}", "logger=none", "optimizer=adamw", batch]
        return typed(hydra.compose("config", [*every, *case.overrides, *overrides]))


def ours(
    backend: str,
    case: Case,
    steps: tuple[int, int],
    devices: int,
    overrides: Sequence[str],
    folder: Path,
) -> float:
    """Samples per second of a real run of the backend, as the recorder of its first process says.

    `steps` are those of the warm-up, and those that are timed.
    """
    length = [
        f"train.steps={sum(steps)}", f"train.log_every={steps[0]}",
        f"train.eval_every={sum(steps)}steps", f"accelerator.devices={devices}",
    ]  # fmt: skip
    world = find_world()
    run(compose(backend, case, [*length, *overrides]), Job(folder, backend), world)
    return RunFolder(folder).result.throughput if world.is_main else math.nan


def bare(
    backend: str,
    case: Case,
    steps: tuple[int, int],
    devices: int,
    overrides: Sequence[str],
    gpu: bool,
) -> float:
    """Samples per second of the loop by hand, on the same data, in the same precision."""
    config = compose(backend, case, overrides)
    data = sources.load(config.dataset)
    hand = importlib.import_module(f"bare_{backend}")
    device = {"torch": "cuda", "jax": "gpu"}[backend] if gpu else "cpu"
    if isinstance(config.dataset, TokensConfig):
        tokens = np.memmap(config.dataset.path, np.uint16, "r")
        batches = hand.token_batches(tokens, config.dataset.length, case.batch, device)
    else:
        fields = data.train.fields
        batches = hand.image_batches(fields["image"], fields["label"], case.batch, device, devices)
    shape, bf16 = data.input_shape, config.train.precision is Precision.bf16
    make = hand.cnn if config.model.name == "cnn" else partial(hand.ours, config.model)
    model = make(shape, data.outputs, bf16)
    return hand.train(model, batches, case.batch, steps, device, devices, bf16)


def measure(options: argparse.Namespace) -> dict:
    """Throughputs of both loops, taking turns, and their ratio pair by pair."""
    backend, devices, folder = options.backend, options.devices, options.worker
    case = located((CASES | LARGE)[options.case], folder)
    steps = options.steps or case.steps
    warmup = min(WARMUP, steps)
    pairs = []
    for turn in range(options.rounds + 1):
        hand = bare(backend, case, (warmup, steps), devices, options.override, options.gpu)
        run_folder = folder / f"{backend}-{turn}"
        own = ours(backend, case, (warmup, steps), devices, options.override, run_folder)
        if turn:  # the first pair warms the machine up
            pairs.append((hand, own))
    ratios = sorted(own / hand for hand, own in pairs)
    return {
        "backend": backend,
        "bare": median(hand for hand, _ in pairs),
        "tandem": median(own for _, own in pairs),
        "ratio": median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def located(case: Case, folder: Path) -> Case:
    """Return a case whose file of tokens is made in a folder."""
    if "dataset.path=TOKENS" not in case.overrides:
        return case
    file = folder / "tokens.bin"
    if not file.exists():
        random = np.random.default_rng(0)
        random.integers(VOCABULARY, size=TOKENS, dtype=np.uint16).tofile(file)
    return replace(case, overrides=tuple(o.replace("TOKENS", str(file)) for o in case.overrides))


def row_of(backend: str, case: str, devices: int) -> dict:
    """Row of `measure` for a backend and a case, run in its own process, or in one per torch device."""
    python = [sys.executable]
    if backend == "torch" and devices > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    with tempfile.TemporaryDirectory() as folder:
        own = ["--worker", folder, "--backend", backend, "--case", case]
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
    parser.add_argument("--case", default="cnn", help=f"{', '.join(CASES | LARGE)}, all or large")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, help="timed in a round, instead of the case's")
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
    on = f", on {options.devices} devices" if options.devices > 1 else ""
    print("samples/s; ratio = median (lowest … highest)")
    print("| | by hand | tandem | ratio |\n|---|---|---|---|")
    named = {"all": CASES, "large": LARGE}.get(options.case, options.case.split(","))
    for name in named:
        for backend in options.backend.split(","):
            row = row_of(backend, name, options.devices)
            ratio = f"{row['ratio']:.2f} ({row['lowest']:.2f} … {row['highest']:.2f})"
            case = (CASES | LARGE)[name]
            says = f"`{name}`, batch {case.batch} {case.says}{on}: {backend}"
            print(f"| {says} | {row['bare']:,.0f} | {row['tandem']:,.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
