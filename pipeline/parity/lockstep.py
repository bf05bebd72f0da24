"""Two runs side by side, step by step, and beside each of them its own noise."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.config import Config, Precision
from pipeline.observer import Trace
from pipeline.parity.differences import Difference, differences, evaluation_differences
from pipeline.parity.lanes import Lane

# What may be between the two in the proof's own precision, and at least in the others (PARITY.md: the
# elementary functions of the two frameworks differ by a few units in the last place).
BARS = {Precision.fp64: 1e-10, Precision.fp32: 1e-5, Precision.bf16: 2e-2}
# Times the noise that a run has of its own. In fp64 of each quantity by itself: there nothing is near
# its noise but what is zero save for rounding, such as the gradient of a bias before a norm, of which
# Adam's division makes something. Otherwise of the noisiest of a part: one quantity is too few draws.
MARGINS = {Precision.fp64: 100, Precision.fp32: 3, Precision.bf16: 3}


@dataclass
class Quantity:
    """One quantity over all steps.

    Args:
        part: of a step.
        name: in it.
        values: difference by step.
        noise: by step, how far a run is from itself, perturbed.
    """

    part: str
    name: str
    values: dict[int, float] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)

    @property
    def worst(self) -> tuple[float, int]:
        """The largest difference, and its step."""
        step = max(self.values, key=self.values.get)
        return self.values[step], step


@dataclass
class Comparison:
    """What came of running both.

    Args:
        backends: their names.
        precision: that it was run in.
        quantities: by part and name, in the order of cause and effect.
        noise: of each part, by step; empty where it was not measured.
        facts: of each backend: digests, number of parameters.
        steps: compared.
        losses: of each backend, by step from 1.
    """

    backends: tuple[str, str]
    precision: Precision
    quantities: dict[tuple[str, str], Quantity] = field(default_factory=dict)
    noise: dict[str, dict[int, float]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)

    @property
    def floor(self) -> float:
        """How far apart the two may be in any case."""
        return BARS[self.precision]

    def bar(self, quantity: Quantity, step: int) -> float:
        """How far apart the two may be in a quantity at `step`, by what noise has shown so far."""
        proof = self.precision is Precision.fp64
        noise = quantity.noise if proof else self.noise.get(quantity.part, {})
        so_far = (value for at, value in noise.items() if at <= step)
        return max(self.floor, MARGINS[self.precision] * max(so_far, default=0.0))

    def parts_at(self, quantity: Quantity) -> int | None:
        """The first step at which the two are further apart in a quantity than they may be."""
        for step, value in quantity.values.items():
            if value > self.floor and not value <= self.bar(quantity, step):
                return step
        return None

    @property
    def parting(self) -> tuple[int, Quantity] | None:
        """The first step at which something parts, and the first cause there; None if nothing does."""
        steps = [(self.parts_at(quantity), quantity) for quantity in self.quantities.values()]
        parted = [(step, quantity) for step, quantity in steps if step is not None]
        return min(parted, key=lambda found: found[0], default=None)

    @property
    def parts(self) -> dict[str, list[Quantity]]:
        """The quantities of each part of a step, in the order of cause and effect."""
        parts: dict[str, list[Quantity]] = {}
        for quantity in self.quantities.values():
            parts.setdefault(quantity.part, []).append(quantity)
        return parts

    def add(self, step: int, found: list[Difference]) -> None:
        """Note the differences of a step between the two."""
        for difference in found:
            key = (difference.part, difference.name)
            self.quantities.setdefault(key, Quantity(*key)).values[step] = difference.value

    def add_noise(self, step: int, found: list[Difference]) -> None:
        """Note how far one of them is from itself."""
        for difference in found:
            if (quantity := self.quantities.get((difference.part, difference.name))) is not None:
                part = self.noise.setdefault(difference.part, {})
                part[step] = max(difference.value, part.get(step, 0.0))
                quantity.noise[step] = max(difference.value, quantity.noise.get(step, 0.0))


def compare(
    config: Config,
    backends: tuple[str, str],
    apart: bool,
    report: Callable[[int, Comparison], None],
    noise: bool = False,
) -> Comparison:
    """Run an experiment on two backends in lockstep.

    Args:
        config: of the experiment.
        backends: their names.
        apart: whether each gets a process of its own.
        report: called after each step.
        noise: whether each also runs beside itself, perturbed.

    Raises:
        Exception: what stopped one of the runs.
    """
    comparison = Comparison(backends, config.train.precision)
    with ExitStack() as stack:
        lanes = [
            # Two managers of Orbax in one process wait for each other.
            stack.enter_context(Lane(config, backend, perturbed, apart or perturbed))
            for perturbed in ((False, True) if noise else (False,))
            for backend in backends
        ]
        while True:
            events = [lane.next() for lane in lanes]
            # Of two that have parted one may stop early, or evaluate when the other does not.
            if None in events or len({type(event) for event in events}) > 1:
                return comparison
            if isinstance(events[0], Trace):
                step = comparison.steps = events[0].step
                comparison.add(step, list(differences(*events[:2])))
                for backend, event in zip(backends, events[:2], strict=True):
                    if step:
                        comparison.losses.setdefault(backend, []).append(mean_loss(event))
                for plain, perturbed in zip(events[:2], events[2:], strict=False):
                    comparison.add_noise(step, list(differences(plain, perturbed)))
                report(step, comparison)
            elif "evaluation" in events[0]:
                sums = [event["evaluation"] for event in events]
                comparison.add(events[0]["step"], evaluation_differences(*sums[:2]))
                for plain, perturbed in zip(sums[:2], sums[2:], strict=False):
                    found = evaluation_differences(plain, perturbed)
                    comparison.add_noise(events[0]["step"], found)
            else:
                comparison.facts = dict(zip(backends, events[:2], strict=True))


def mean_loss(trace: Trace) -> float:
    """Of the batch of a step: over its samples, or over all their tokens."""
    targets = trace.batch["targets"]
    classes = np.issubdtype(targets.dtype, np.integer)
    return float(trace.values[0]) / (targets.size if classes else len(targets))
