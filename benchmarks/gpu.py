"""Checks and measurements of a machine with one or more GPUs; writes benchmarks/gpu.md.

    python -m benchmarks.gpu [--only checks,parity,speed] [--seconds 20]      or: make gpu

Both backends train, resume and cross on the GPU (`pytest -m gpu`), agree in each precision
(`pipeline.parity`), keep up with loops by hand (`benchmarks/overhead.py`), and are compared in bf16 beside
the card's peak (`pipeline.bench`). What needs more GPUs than there are is skipped, by name.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sections import write_section
from pipeline.devices.hardware import gpu_count, hardware

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "benchmarks" / "gpu.md"
TITLE = "On a GPU"
ABSENT = (
    "This machine has no GPU that CUDA shows (no /dev/nvidia0, or CUDA_VISIBLE_DEVICES hides it). "
    "make gpu is for one that has; what JAX would run there is tested without one by make aot."
)

# Dense bf16 products per second of a card, in 1e12 operations: NVIDIA's data sheets, by part of the name.
PEAKS = {
    "B200": 2250, "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362,
    "L4": 121, "A10": 125, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip

IMAGES = ("dataset=synthetic", "dataset.samples=2048")
WORDS = ("dataset=text", "dataset.length=1024")
# Each with its overrides; of the sizes of their papers.
MODELS = {
    "resnet18": ("model=resnet18", *IMAGES),
    "vit_small": ("model=vit_small", "dataset.shape=[224,224,3]", *IMAGES),
    "gpt2": ("model=gpt2", *WORDS),
}
PARITY = {
    "cnn": ("model=cnn", "train.steps=20"),
    "resnet18": ("model=resnet18", "model.width=16", "train.steps=10"),
    "gpt": ("model=gpt", "dataset=text", "dataset.max_bytes=200_000", "train.steps=10"),
}


@dataclass(frozen=True)
class Check:
    """A command, and the number of GPUs that it needs; `result` is the JSON file that it leaves."""

    name: str
    command: tuple[str, ...]
    gpus: int = 1
    result: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a check: `passed`, `failed` or `skipped`, and its last line or its reason."""

    check: Check
    state: str
    said: str
    found: dict | None = None  # content of its JSON file


def checks(seconds: float) -> dict[str, list[Check]]:
    """Return all checks, by section of the page."""
    python, name = sys.executable, "gpu-{}"
    tests = (python, "-m", "pytest", "-m", "gpu", "-n", "0", "-q", "tests/end_to_end/test_gpu.py")
    several = (*tests[:4], "gpus", *tests[5:])
    hand = (python, "benchmarks/overhead.py", "--gpu")
    large = [
        Check(
            f"loops by hand, {case} in bf16",
            (*hand, f"--case={case}", "accelerator=gpu", "train.precision=bf16"),
        )
        for case in ("resnet18_large", "vit_small", "gpt2")
    ]
    overhead = (*hand, "accelerator=gpu")
    parity = [
        Check(
            f"{model} in {precision}",
            (python, "-m", "pipeline.parity", *overrides, f"train.precision={precision}",
             "accelerator=gpu", f"name={name.format(f'parity-{model}-{precision}')}"),
            result=ROOT / "outputs" / name.format(f"parity-{model}-{precision}") / "parity.json",
        )
        for model, overrides in PARITY.items()
        for precision in ("fp64", "fp32", "bf16")
    ]  # fmt: skip
    speed = [
        Check(
            model,
            (python, "-m", "pipeline.bench", *overrides, "accelerator=gpu", "precisions=bf16",
             f"seconds={seconds:g}", f"name={name.format(f'bench-{model}')}"),
            result=ROOT / "outputs" / name.format(f"bench-{model}") / "bench.json",
        )
        for model, overrides in MODELS.items()
    ]  # fmt: skip
    return {
        "checks": [
            Check("train, resume, cross, sweep, repeat", tests),
            Check("ddp and fsdp on two GPUs", several, gpus=2),
        ],
        "parity": parity,
        "speed": [
            Check("loops by hand", overhead),
            *large,
            Check("loops by hand on two GPUs", (*overhead, "--devices", "2"), gpus=2),
            *speed,
        ],
    }


def outcome_of(check: Check, gpus: int) -> Outcome:
    """Run a check, if there are GPUs enough."""
    if gpus < check.gpus:
        return Outcome(check, "skipped", f"needs {check.gpus} GPUs, and there is {gpus}")
    print(f"… {check.name}", flush=True)
    done = subprocess.run(check.command, cwd=ROOT, capture_output=True, text=True)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    has_result = check.result is not None and check.result.is_file()
    found = json.loads(check.result.read_text()) if check.result and has_result else None
    rows = [line.strip("| ") for line in lines if line.startswith("| `")]  # of loops by hand
    said = (found or {}).get("sentence") or "; ".join(rows or lines[-1:])
    return Outcome(check, "failed" if done.returncode else "passed", str(said), found)


def table_of(outcomes: Sequence[Outcome]) -> str:
    """Return a table of what came of checks."""
    rows = [f"| {o.check.name} | {o.state} | {o.said.replace('|', '/')} |" for o in outcomes]
    return "\n".join(["| check | | |", "|---|---|---|", *rows])


def speed_of(outcomes: Sequence[Outcome], card: str) -> str:
    """Return a table of each backend's fastest training step, beside the card's peak."""
    peak = next((tera for part, tera in PEAKS.items() if part in card), None)
    rows = []
    for outcome in outcomes:
        measured = [one for one in (outcome.found or {}).get("measured", []) if one["train"]]
        for backend in dict.fromkeys(one["backend"] for one in measured):
            own = [one for one in measured if one["backend"] == backend]
            best = max(own, key=lambda one: one["samples_per_second"][0])
            rate = best["samples_per_second"][0]
            done = rate * operations(MODELS[outcome.check.name]) / 1e12
            part = f"{100 * done / peak:.0f} %" if peak else "unknown"
            rows.append(
                f"| {outcome.check.name} | {backend} | {best['batch']} | {rate:,.0f} | {done:.0f} | {part} "
                f"| {best['memory_mb'] or 0:,.0f} |"
            )
    head = f"| model | backend | batch | samples/s | TFLOP/s | of {card}'s {peak or '?'} | memory in MB |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def operations(overrides: Sequence[str]) -> int:
    """Floating-point operations of a training step for one sample, counted by torch on shapes alone."""
    import torch
    from hydra import compose
    from torch.utils.flop_counter import FlopCounterMode

    from lightning_impl.models import build_model
    from pipeline.config.experiment import register, typed
    from pipeline.config.hydra_compat import compose_from
    from pipeline.data.sources import load

    register()
    with compose_from(ROOT / "conf"):
        config = typed(compose("config", [*overrides]))
    data = load(config.dataset, config.task)
    with torch.device("meta"):
        model = build_model(config.model, data.input_shape, data.outputs)
        shape = data.input_shape
        is_image = len(shape) == 3
        x = torch.zeros(1, shape[2], *shape[:2]) if is_image else torch.zeros(1, *shape).long()
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return counter.get_total_flops()


def card_name() -> str:
    """Name of the first GPU, as the driver says it."""
    asked = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    try:
        return subprocess.run(asked, capture_output=True, text=True).stdout.splitlines()[0].strip()
    except (OSError, IndexError):
        return "GPU"


def main() -> int:
    """Run the checks that are asked for; return 1 if one has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyrefly: ignore[missing-attribute]
    parser.add_argument(
        "--only", default="checks,parity,speed", help="sections, with commas between"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of the turns at one batch size")
    options = parser.parse_args()
    gpus = gpu_count()
    if not gpus:
        print(ABSENT, file=sys.stderr)
        return 1
    card = card_name()
    said = {"cards": f"{gpus} × {card}"} | hardware()
    machine = "\n".join(f"* {name}: {value}" for name, value in said.items())
    write_section(PAGE, TITLE, "## Machine", machine)
    states = []
    for section, asked in checks(options.seconds).items():
        if section not in options.only.split(","):
            continue
        outcomes = [outcome_of(check, gpus) for check in asked]
        tables = [table_of(outcomes), *([speed_of(outcomes, card)] if section == "speed" else [])]
        write_section(PAGE, TITLE, f"## {section.capitalize()}", "\n\n".join(tables))
        print(table_of(outcomes), flush=True)
        states += [outcome.state for outcome in outcomes]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"{counts}: {PAGE.relative_to(ROOT)}")
    return int("failed" in states)


if __name__ == "__main__":
    sys.exit(main())
