"""What came of a comparison: a table for the terminal, `parity.json`, and a picture over the steps."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from pipeline.config import Config, Precision, plain
from pipeline.parity.differences import (
    AVERAGE,
    BATCH,
    BUFFERS,
    CLIPPED,
    EVALUATION,
    FORWARD,
    GRADIENT,
    LOSS,
    NORM,
    RATE,
    SLOT,
    STATISTICS,
    UPDATE,
    WEIGHTS,
)
from pipeline.parity.lockstep import Comparison, Quantity

# What a first difference in a part means, and where to look for it.
MEANING = {
    WEIGHTS: "the two start from different weights: how they are loaded into this layer differs",
    STATISTICS: "the two start from different buffers",
    BATCH: "the two see different data",
    FORWARD: "the forward pass parts here; everything before it is the same",
    LOSS: "the model's outputs are the same, the loss made of them is not",
    BUFFERS: "the forward pass is the same, what it leaves in the running statistics is not",
    GRADIENT: "the forward pass is the same, the backward pass parts here",
    NORM: "the gradients are the same, their norm is not",
    CLIPPED: "the gradients are the same before clipping, not after it",
    RATE: "the learning rates differ",
    SLOT: "the gradients are the same, what the optimizer keeps of them is not",
    UPDATE: "gradients and optimizer slots are the same, the update made of them is not "
    "(epsilon, weight decay, learning-rate factor, or a frozen parameter)",
    AVERAGE: "the weights are the same, their average is not",
    EVALUATION: "training is the same, the evaluation is not",
}

BY_STEP = (LOSS, NORM, RATE, FORWARD, GRADIENT, BUFFERS, SLOT, UPDATE)


def verdict(comparison: Comparison) -> str:
    """One sentence: whether the two are the same, or where they part first."""
    if (parting := comparison.parting) is None:
        if comparison.precision is not Precision.fp64:
            loss = comparison.quantities[LOSS, "loss"]
            return (
                f"the same within their own noise: over {comparison.steps} steps the losses differ by "
                f"at most {loss.worst[0]:.1e}, those of a run and the same run perturbed by "
                f"{max(loss.noise.values()):.1e}"
            )
        worst = max((q for q in comparison.quantities.values()), key=lambda q: q.worst[0])
        noise = max(worst.noise.values(), default=0.0)
        more = (
            f" (rounding alone: the same run perturbed differs there by {noise:.1e})"
            if noise
            else ""
        )
        return (
            f"the same: over {comparison.steps} steps nothing differs by more than "
            f"{worst.worst[0]:.1e}{more}"
        )
    step, quantity = parting
    return (
        f"they part at step {step}: {quantity.part}: {place(comparison, quantity, step)}, "
        f"by {quantity.values[step]:.1e}; {MEANING[quantity.part]}"
    )


def place(comparison: Comparison, quantity: Quantity, step: int) -> str:
    """Where a quantity is; between two modules where it is what the one takes of the other."""
    name, is_input, _ = quantity.name.partition(" input")
    if quantity.part != FORWARD or not is_input:
        return quantity.name.removesuffix(" output") if quantity.part == FORWARD else quantity.name
    before = None
    for other in comparison.parts[FORWARD]:
        if other is quantity:
            break
        if other.name.endswith(" output") and step in other.values:
            before = other.name.removesuffix(" output")
    return f"between {before} and {name}" if before else f"before {name}"


def table(comparison: Comparison) -> Table:
    """The worst of each part of a step, in the order of cause and effect."""
    noisy = bool(comparison.noise)
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("part", no_wrap=True)
    for column in ("worst", *(["own noise"] if noisy else []), "bar"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("where", overflow="fold")
    shown.add_column("parts", justify="right", no_wrap=True)
    for part, quantities in comparison.parts.items():
        parted = [q for q in quantities if comparison.parts_at(q) is not None]
        worst = max(parted or quantities, key=lambda quantity: quantity.worst[0])
        value, step = worst.worst
        first = min((comparison.parts_at(q) for q in parted), default=None)
        shown.add_row(
            part,
            f"[{'red' if parted else 'green'}]{value:.1e}[/]",
            *([f"{max(worst.noise.values(), default=0.0):.1e}"] if noisy else []),
            f"{comparison.bar(worst, step):.1e}",
            f"{worst.name}, step {step}" if value else "",
            f"[red]step {first}[/]" if first is not None else "never",
        )
    return shown


def layers_table(comparison: Comparison) -> Table:
    """At the step at which they part: every module and parameter, forward and backward."""
    step, _ = comparison.parting
    shown = Table(box=box.SIMPLE_HEAD)
    columns = (FORWARD, GRADIENT, UPDATE)
    shown.add_column(f"at step {step}")
    for column in columns:
        shown.add_column(column, justify="right")
    names = dict.fromkeys(
        quantity.name.removesuffix(" output")
        for column in columns
        for quantity in comparison.parts.get(column, [])
        if not quantity.name.endswith(" input")
    )
    for name in sorted(names, key=lambda name: name.rpartition(".")[0] or name):
        cells = []
        for column in columns:
            quantity = comparison.quantities.get((column, name)) or comparison.quantities.get(
                (column, f"{name} output")
            )
            value = quantity.values.get(step) if quantity else None
            parted = value is not None and not value <= comparison.bar(quantity, step)
            cells.append("" if value is None else f"[{'red' if parted else 'green'}]{value:.1e}[/]")
        shown.add_row(name, *cells)
    return shown


def as_json(comparison: Comparison, config: Config) -> dict[str, Any]:
    """Everything that was compared, for a program to read."""
    parting = comparison.parting
    facts = list(comparison.facts.values())
    return {
        "verdict": "parted" if parting else "same",
        "sentence": verdict(comparison),
        "steps": comparison.steps,
        "precision": config.train.precision.name,
        "floor": comparison.floor,
        "backends": list(comparison.backends),
        "first": None
        if parting is None
        else {
            "step": parting[0],
            "part": parting[1].part,
            "name": parting[1].name,
            "place": place(comparison, parting[1], parting[0]),
            "difference": finite(parting[1].values[parting[0]]),
        },
        "facts": comparison.facts,
        "same_initial_bytes": same(facts, "init_digest"),
        "same_batches": same(facts, "data_digest"),
        "losses": comparison.losses,
        "parts": {
            part: {
                quantity.name: {
                    "worst": finite(quantity.worst[0]),
                    "at_step": quantity.worst[1],
                    "parts_at": comparison.parts_at(quantity),
                    "noise": finite(max(quantity.noise.values(), default=0.0)),
                }
                for quantity in quantities
            }
            for part, quantities in comparison.parts.items()
        },
        "by_step": {
            part: over_steps(comparison, part) for part in BY_STEP if part in comparison.parts
        },
        "config": plain(config),
    }


def over_steps(comparison: Comparison, part: str) -> dict[str, list[float | None]]:
    """The worst of a part at each step, and its noise."""
    quantities, noise = comparison.parts[part], comparison.noise.get(part, {})
    steps = sorted({step for quantity in quantities for step in quantity.values})
    worst = [max(quantity.values.get(step, 0.0) for quantity in quantities) for step in steps]
    return {
        "step": steps,
        "worst": [*map(finite, worst)],
        "noise": [finite(noise.get(step, 0.0)) for step in steps],
    }


def same(facts: list[dict[str, Any]], key: str) -> bool | None:
    """Whether both backends have the same of something; None where a run did not get that far."""
    return facts[0]["facts"].get(key) == facts[1]["facts"].get(key) if facts else None


def finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if abs(value) < float("inf") else None


def write(comparison: Comparison, config: Config, folder: Path) -> list[Path]:
    """Write `parity.json` and `parity.png` into a folder; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    content, picture = folder / "parity.json", folder / "parity.png"
    content.write_text(json.dumps(as_json(comparison, config), indent=1) + "\n")
    draw(comparison, picture)
    return [content, picture]


def draw(comparison: Comparison, path: Path) -> None:
    """The worst difference of each part over the steps, with its noise and the bar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for part in BY_STEP:
        series = over_steps(comparison, part) if part in comparison.parts else {"worst": []}
        if not any(series["worst"]):
            continue
        # A logarithmic axis has no room for "the same to the last bit".
        line = axes.plot(series["step"], [value or 1e-17 for value in series["worst"]], label=part)
        if any(series["noise"]):
            noise = [value or 1e-17 for value in series["noise"]]
            axes.plot(series["step"], noise, ":", color=line[0].get_color())
    axes.axhline(comparison.floor, color="black", linewidth=0.8, linestyle="--", label="bar")
    axes.set(yscale="log", xlabel="step", ylabel="relative difference")
    axes.set_title(f"{' and '.join(comparison.backends)}, step by step (dotted: own noise)")
    axes.legend(loc="upper left", fontsize="small", ncols=2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
