"""The page benchmarks/gpu.md: outcomes of the checks, as they come."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.cases import LARGE
from benchmarks.gpu.checks import ROOT, SECTIONS
from benchmarks.gpu.schedule import Outcome
from benchmarks.sections import write_section
from pipeline.devices.hardware import hardware

PAGE = ROOT / "benchmarks" / "gpu.md"
TITLE = "On a GPU"
LAST_LINES = 40  # of the output of a check that failed

# The end of the answers.
OTHERS = (
    "For your own model and data, at all batch sizes that fit: `python -m pipeline.bench accelerator=gpu "
    "model=NAME dataset=NAME`, or `model=own model.torch=my_torch:Net model.jax=my_jax:Net`. `--layers` "
    "tells the time of each layer. By hand, below, are loops without Tandem: ratios of about 1 say that the "
    "frameworks are compared, not Tandem."
)

# Dense bf16 products per second of a card, in 1e12 operations: NVIDIA's data sheets, by part of the name.
PEAKS = {
    "B200": 2250, "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362,
    "L4": 121, "A10": 125, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip


def write_machine(page: Path, gpus: int, on: str) -> None:
    """Write what the machine is; a rehearsal on a CPU says so."""
    rehearsal = "none: a rehearsal at the smallest sizes, whose figures say nothing of a GPU"
    said = {"cards": f"{gpus} × {card_name()}" if on == "gpu" else rehearsal} | hardware()
    write_section(page, TITLE, "## Machine", "\n".join(f"* {key}: {said[key]}" for key in said))


def write_outcomes(page: Path, outcomes: Sequence[Outcome], card: str | None) -> None:
    """Write the outcomes so far: failures with the end of their output, and a table for each section.

    Without a `card`, in a rehearsal of smaller models, no speed is set beside its peak.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    write_section(page, TITLE, "## Failures", "\n\n".join(map(failure_of, failed)) or "None.")
    for section in SECTIONS:
        if own := [one for one in outcomes if one.check.section == section]:
            has_found = section == "speed" and any(one.found for one in own)
            parts = [answers_of(own)] if has_found else []
            parts += [speed_of(own, card)] if card and has_found else []
            text = "\n\n".join([*parts, table_of(own)])
            write_section(page, TITLE, f"## {section.capitalize()}", text)


def failure_of(outcome: Outcome) -> str:
    """Return why a check failed, its command and the end of its output."""
    command = " ".join(outcome.check.command[1:])
    end = "\n".join(outcome.output.replace("```", "'''").splitlines()[-LAST_LINES:])
    return f"### {outcome.check.name}\n\n{outcome.said}\n\n```\npython {command}\n{end}\n```"


def table_of(outcomes: Sequence[Outcome]) -> str:
    """Return a table of what came of checks."""
    rows = [
        f"| {one.check.name} | {one.state} | {one.seconds:.0f} | {one.said.replace('|', '/')} |"
        for one in outcomes
    ]
    return "\n".join(["| check | | s | |", "|---|---|---|---|", *rows])


def answers_of(outcomes: Sequence[Outcome]) -> str:
    """Return which backend is faster for each model that was measured, and how to ask for another."""
    lines = []
    for outcome in outcomes:
        found = outcome.found or {}
        if told := [*found.get("sentences", ()), *found.get("unlike", ())]:
            lines.append(
                f"* {outcome.check.name}, {LARGE[outcome.check.name].says}: {' '.join(told)}"
            )
    return "\n".join(["Which backend is faster:", "", *lines, "", OTHERS])


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
            done = rate * operations(LARGE[outcome.check.name].overrides) / 1e12
            part = f"{100 * done / peak:.0f} %" if peak else "unknown"
            rows.append(
                f"| {outcome.check.name} | {backend} | {best['batch']} | {rate:,.0f} | {done:.0f} | {part} "
                f"| {best['memory_mb'] or 0:,.0f} |"
            )
    head = f"| model | backend | batch | samples/s | TFLOP/s | of {card}'s {peak or '?'} | memory in MB |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


@cache
def operations(overrides: tuple[str, ...]) -> int:
    """Floating-point operations of a training step for one sample, counted by torch on shapes alone."""
    import torch
    from hydra import compose
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from lightning_impl.models import build_model
    from pipeline.config.experiment import register, typed
    from pipeline.config.hydra_compat import compose_from
    from pipeline.data.sources import load

    register()
    with compose_from(ROOT / "conf"):
        # Products, which the counter knows.
        is_transformer = any(key.startswith(("model=vit", "model=gpt")) for key in overrides)
        plain = ["model.attention=written_out"] if is_transformer else []
        config = typed(compose("config", [*overrides, *plain]))
    data = load(config.dataset, config.task)
    with FakeTensorMode():
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
