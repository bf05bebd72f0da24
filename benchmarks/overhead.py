"""Overhead of Tandem: each backend's training loop beside a bare one by hand in the same framework.

Same model, batch, data and optimizer; the two take turns in one process, in alternating order, until their
ratio is known within 2 %, or `--rounds` are over. It is the median of those of the rounds, with its 95 %
interval, as in `pipeline.bench`. Evaluation and compilation are left out on both sides. With `--devices 2`
they share the batch between two: torch's DDP in as many processes, in which again the two loops take turns;
JAX's on a mesh.

    python benchmarks/overhead.py [--case cnn] [--rounds 30] [--steps N] [--backend torch,jax] [--devices 1]
        [OVERRIDE …]

The cases are those of `cases.CASES`, or `all` of them; on a GPU (`--gpu accelerator=gpu`) also those of
`cases.LARGE`, or `large`.
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
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import hydra
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.cases import CASES, LARGE, Case  # noqa: E402
from pipeline.bench.statistics import ratio  # noqa: E402
from pipeline.bench.timing.rounds import Known, rounds_of  # noqa: E402
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
HAND, TANDEM = "by hand", "tandem"
ROW = "row: "  # how the line begins that a worker leaves for the table
TOKENS, VOCABULARY = 1_000_000, 512  # of the file that a case of tokens gets


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
    fields = data.train.fields
    if "tokens" in fields:
        is_file = isinstance(config.dataset, TokensConfig)
        tokens = np.memmap(config.dataset.path, np.uint16, "r") if is_file else fields["tokens"]
        batches = hand.token_batches(tokens.reshape(-1), data.input_shape[0], case.batch, device)
    else:
        batches = hand.image_batches(fields["image"], fields["label"], case.batch, device, devices)
    shape, bf16 = data.input_shape, config.train.precision is Precision.bf16
    make = hand.cnn if config.model.name == "cnn" else partial(hand.ours, config.model)
    model = make(shape, data.outputs, bf16)
    return hand.train(model, batches, case.batch, steps, device, devices, bf16)


def measure(options: argparse.Namespace) -> Known:
    """Throughputs of both loops by round: they take turns until their ratio is known."""
    backend, devices, folder = options.backend, options.devices, options.worker
    case = located((CASES | LARGE)[options.case], folder)
    steps = options.steps or case.steps
    lengths, numbers = (min(WARMUP, steps), steps), count()

    def hand() -> float:
        return bare(backend, case, lengths, devices, options.override, options.gpu)

    def own() -> float:
        run_folder = folder / f"{backend}-{next(numbers)}"
        return ours(backend, case, lengths, devices, options.override, run_folder)

    turns = {HAND: hand, TANDEM: own}
    for take in turns.values():  # the first turns warm the machine up
        take()
    alone = backend != "torch" or devices == 1
    return rounds_of(turns, options.rounds, bool if alone else first_decides)


def first_decides(answer: bool) -> bool:
    """Give all processes of torch the answer of the first."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():  # before the first turn
        return answer
    sent = torch.tensor([int(answer)])
    dist.broadcast(sent, src=0)
    return bool(sent)


def located(case: Case, folder: Path) -> Case:
    """Return a case whose file of tokens is made in a folder."""
    if "dataset.path=TOKENS" not in case.overrides:
        return case
    file = folder / "tokens.bin"
    if not file.exists():
        random = np.random.default_rng(0)
        random.integers(VOCABULARY, size=TOKENS, dtype=np.uint16).tofile(file)
    return replace(case, overrides=tuple(o.replace("TOKENS", str(file)) for o in case.overrides))


def rates_of(backend: str, case: str, devices: int) -> Known:
    """Rates of `measure` for a backend and a case, run in its own process, or in one per torch device."""
    python = [sys.executable]
    if backend == "torch" and devices > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    with tempfile.TemporaryDirectory() as folder:
        own = ["--worker", folder, "--backend", backend, "--case", case]
        command = [*python, __file__, *sys.argv[1:], *own]
        if devices > 1:  # torchrun would give each a single one, however many cores there are
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    [row] = [line for line in output.splitlines() if line.startswith(ROW)]
    return json.loads(row.removeprefix(ROW))


def main() -> None:
    """Measure each backend, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="torch,jax", help="which, with commas between")
    parser.add_argument("--case", default="cnn", help=f"{', '.join(CASES | LARGE)}, all or large")
    parser.add_argument("--rounds", type=int, default=30, help="at most")
    parser.add_argument("--steps", type=int, help="timed in a round, instead of the case's")
    parser.add_argument("--gpu", action="store_true", help="the bare loop on the GPU, too")
    parser.add_argument("--devices", type=int, default=1, help="that share the batch")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # where its runs lie
    parser.add_argument("override", nargs="*", help="for the run, such as accelerator=gpu")
    options = parser.parse_args()
    if options.worker:
        rates = measure(options)
        if os.environ.get("RANK", "0") == "0":
            print(f"\n{ROW}{json.dumps(rates)}")
        return
    on = f", on {options.devices} devices" if options.devices > 1 else ""
    print("samples/s; ratio = median (95 % interval, rounds)")
    print("| | by hand | tandem | ratio |\n|---|---|---|---|")
    named = {"all": CASES, "large": LARGE}.get(options.case, options.case.split(","))
    for name in named:
        for backend in options.backend.split(","):
            rates = rates_of(backend, name, options.devices)
            case = (CASES | LARGE)[name]
            says = f"`{name}`, batch {case.batch} {case.says}{on}: {backend}"
            medians = [f"{median(rates[side]):,.0f}" for side in (HAND, TANDEM)]
            gain = ratio(rates[HAND], rates[TANDEM]).in_words
            print("| " + " | ".join([says, *medians, gain]) + " |", flush=True)


if __name__ == "__main__":
    main()
