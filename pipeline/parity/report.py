"""Report of a parity check: a table for the terminal, `parity.json`, and a plot over the steps."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Column, Table

from pipeline.config.experiment import Config, plain
from pipeline.config.train import Precision
from pipeline.formatting import finite
from pipeline.parity.differences import BY_STEP, FORWARD, GRADIENT, LOSS, MEANING, UPDATE, WEIGHTS
from pipeline.parity.draws import describe, left_out
from pipeline.parity.lockstep import BARS, Comparison, Quantity

FLOAT32 = 1e-5  # a larger difference is no rounding of float32


def verdict(comparison: Comparison) -> str:
    """Return one sentence: the two are the same, or their first difference."""
    steps = comparison.steps
    if reason := comparison.abstention:
        return f"no verdict: {reason}"
    if parting := comparison.parting:
        step, quantity = parting
        if quantity.part == WEIGHTS and (words := alone(comparison)):
            return f"they part at step {step}: {quantity.part}: {words}"
        return (
            f"they part at step {step}: {quantity.part}: {place(comparison, quantity, step)}, "
            f"by {quantity.values[step]:.1e}; {MEANING[quantity.part]}"
            f"{rounding(comparison, quantity.values[step])}"
        )
    if comparison.precision is not Precision.fp64:
        loss = comparison.quantities[LOSS, "loss"]
        return (
            f"the same within their own noise: over {steps} steps the losses differ by at most "
            f"{loss.worst[0]:.1e}, those of a run and the same run perturbed by {loss.most_noise:.1e}"
        )
    judged = [quantity for quantity in comparison.quantities.values() if quantity.part != FORWARD]
    worst = max(judged, key=lambda quantity: quantity.worst[0])
    start = "the same"
    if draws := next(iter(comparison.draws.values()), ()):
        start += f" with {left_out(draws)} left out ({describe(draws)})"
    sentence = f"{start}: over {steps} steps nothing differs by more than {worst.worst[0]:.1e}"
    if noise := worst.most_noise:
        sentence += f" (rounding alone: the same run perturbed differs there by {noise:.1e})"
    return sentence


def rounding(comparison: Comparison, value: float) -> str:
    """Return a hint at layers that make float32, if a difference is as small as its rounding."""
    if value > FLOAT32 or not comparison.narrow:
        return ""
    layers = " and ".join(f"{backend} in {layer}" for backend, layer in comparison.narrow.items())
    return (
        f". But float32 is made by {layers}, whose rounding is of this size: let it compute in its input's "
        "type (a Flax module with a field `dtype` gets the run's)"
    )


def alone(comparison: Comparison) -> str:
    """Return the parameters that one backend alone has: `in torch only: fc.bias [10]`."""
    return "; ".join(
        f"in {backend} only: "
        + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        for backend, shapes in comparison.alone.items()
        if shapes
    )


def place(comparison: Comparison, quantity: Quantity, step: int) -> str:
    """Return the module or parameter of a quantity; of an input the modules before and after it."""
    if quantity.part != FORWARD:
        return quantity.name
    name, is_input, _ = quantity.name.partition(" input")
    if not is_input:
        return name.removesuffix(" output")
    before = None
    for other in comparison.parts[FORWARD]:
        if other is quantity:
            break
        if other.name.endswith(" output") and step in other.values:
            before = other.name.removesuffix(" output")
    return f"between {before} and {name}" if before else f"before {name}"


def table(comparison: Comparison) -> Table:
    """Return the worst difference of each part of a step, in the order of cause and effect."""
    noisy = bool(comparison.noise)
    first, second = comparison.backends
    shown = Table(title=f"{first} and {second}", box=box.SIMPLE_HEAD)
    shown.add_column("part", no_wrap=True)
    for column in ("worst", *(["own noise"] if noisy else []), "bar"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("where", overflow="fold")
    shown.add_column("parts", justify="right", no_wrap=True)
    for part, quantities in comparison.parts.items():
        steps = {q.name: step for q in quantities if (step := comparison.parts_at(q)) is not None}
        if part == FORWARD and not comparison.parting:
            steps = {}  # in another order on either side
        parted = [q for q in quantities if q.name in steps]
        worst = max(parted or quantities, key=lambda quantity: quantity.worst[0])
        value, step = worst.worst
        shown.add_row(
            part,
            f"[{'red' if parted else 'green'}]{value:.1e}[/]",
            *([f"{worst.most_noise:.1e}"] if noisy else []),
            f"{comparison.bar(worst, step):.1e}",
            f"{worst.name}, step {step}" if value else "",
            f"[red]step {min(steps.values())}[/]" if steps else "never",
        )
    return shown


def layers_table(comparison: Comparison, step: int) -> Table:
    """Return the differences of a step, module by module, forward and backward."""
    known, columns = comparison.quantities, (FORWARD, GRADIENT, UPDATE)
    numbers = [Column(column, justify="right") for column in columns]
    shown = Table(f"at step {step}", *numbers, box=box.SIMPLE_HEAD)
    names = dict.fromkeys(
        quantity.name.removesuffix(" output")
        for column in columns
        for quantity in comparison.parts.get(column, [])
        if not quantity.name.endswith(" input")
    )
    for name in sorted(names, key=lambda name: name.rpartition(".")[0] or name):
        cells = []
        for column in columns:
            quantity = known.get((column, name), known.get((column, f"{name} output")))
            if quantity is None or step not in quantity.values:
                cells.append("")
            else:
                value = quantity.values[step]
                colour = "red" if value > comparison.bar(quantity, step) else "green"
                cells.append(f"[{colour}]{value:.1e}[/]")
        shown.add_row(name, *cells)
    return shown


def as_json(comparison: Comparison, config: Config) -> dict[str, object]:
    """Return the whole comparison as JSON."""
    first = None
    if parting := comparison.parting:
        step, quantity = parting
        first = {
            "step": step,
            "part": quantity.part,
            "name": quantity.name,
            "place": place(comparison, quantity, step),
            "difference": finite(quantity.values[step]),
        }
    return {
        "verdict": "abstain" if comparison.abstention else "parted" if first else "same",
        "sentence": verdict(comparison),
        "steps": comparison.steps,
        "precision": config.train.precision.name,
        "floor": BARS[comparison.precision],
        "backends": list(comparison.backends),
        "first": first,
        "facts": {name: asdict(finished) for name, finished in comparison.finished.items()},
        "same_initial_bytes": same(comparison, "init_digest"),
        "same_batches": same(comparison, "data_digest"),
        "losses": comparison.losses,
        "parts": {
            part: {
                quantity.name: {
                    "worst": finite(quantity.worst[0]),
                    "at_step": quantity.worst[1],
                    "parts_at": comparison.parts_at(quantity),
                    "noise": finite(quantity.most_noise),
                }
                for quantity in quantities
            }
            for part, quantities in comparison.parts.items()
        },
        "by_step": by_step(comparison),
        "config": plain(config),
    }


def by_step(comparison: Comparison) -> dict[str, dict[str, list]]:
    """Return the worst difference of each part of `BY_STEP` at each step, and its noise."""
    found = {}
    for part in BY_STEP:
        if quantities := comparison.parts.get(part):
            noise = comparison.noise.get(part, {})
            steps = sorted({step for quantity in quantities for step in quantity.values})
            worst = [max(q.values.get(step, 0.0) for q in quantities) for step in steps]
            numbers = {"worst": worst, "noise": [noise.get(step, 0.0) for step in steps]}
            finites = {name: [*map(finite, values)] for name, values in numbers.items()}
            found[part] = {"step": steps} | finites
    return found


def same(comparison: Comparison, key: str) -> bool | None:
    """Return whether a fact is the same on both backends; None if a run did not get that far."""
    values = [finished.facts.get(key) for finished in comparison.finished.values()]
    return values[0] == values[1] if values else None


def write(comparison: Comparison, config: Config, folder: Path) -> list[Path]:
    """Write `parity.json` and `parity.png` into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    content, picture = folder / "parity.json", folder / "parity.png"
    content.write_text(json.dumps(as_json(comparison, config), indent=1) + "\n")
    draw(comparison, picture)
    return [content, picture]


def draw(comparison: Comparison, path: Path) -> None:
    """Plot the worst difference of each part over the steps, with its noise and the bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for part, series in by_step(comparison).items():
        step, worst, noise = (np.array(values, dtype=float) for values in series.values())
        if not worst.any():
            continue
        # A logarithmic axis has no zero.
        line = axes.plot(step, np.where(worst, worst, 1e-17), label=part)
        if noise.any():
            axes.plot(step, np.where(noise, noise, 1e-17), ":", color=line[0].get_color())
    axes.axhline(
        BARS[comparison.precision], color="black", linewidth=0.8, linestyle="--", label="bar"
    )
    axes.set(yscale="log", xlabel="step", ylabel="relative difference")
    axes.set_title(f"{' and '.join(comparison.backends)}, step by step (dotted: own noise)")
    axes.legend(loc="upper left", fontsize="small", ncols=2)
    figure.savefig(path, dpi=150)
