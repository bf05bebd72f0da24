"""Noise of the constants that the models hold in float32, whatever the precision of the check.

A rotary table or a position's sines made in float32 leave about 1e-7 between two models that are the same.
What that changes is measured: each side against itself, its constants moved by float32's own rounding. The
bar that is made of it stays below a limit, since a mistake of that size could not be told from it.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from pipeline.config.optimizers import OptimizerConfig
from pipeline.storage.portable_state import Arrays
from pipeline.verify.both import both
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.checks.differences import by_name, relative
from pipeline.verify.sides.subject import Inputs, Pass
from pipeline.verify.trace.constants import (
    NARROW,
    UNIT,
    is_rounded,
    narrow_constants,
    nudged,
    users,
)
from pipeline.verify.trace.graph import Array, Trace
from pipeline.verify.verdict import Part, part_of_output

NARROW_MARGIN = 10  # accepted multiple of this noise: its signs are not those of the true rounding
MOST_NARROW = 1e-5  # largest difference that is accepted as this noise

Noise = dict[tuple[Part, str], float]  # of an output or array, by the left side's name


class NarrowNoise:
    """Noise of two models' constants in float32; `layers` are those that use them, side by side."""

    def __init__(self, checker: Checker, traces: tuple[Trace, Trace]) -> None:
        self.checker = checker
        self.left, self.right = checker.left, checker.right
        mapping = checker.mapping
        free = ~mapping.is_used, mapping.source < 0
        self.tables: list[Arrays] = []  # arrays in float32 without a counterpart, with their values
        self.layers: list[list[str]] = []
        self.accepted = 0.0  # largest difference that was taken for this noise
        for side, owners, mask, trace in zip(
            (self.left, self.right), (mapping.left, mapping.right), free, traces, strict=True
        ):
            values = side.values() if mask.any() else {}
            tables = {
                array.name: values[array.name]
                for index, array in enumerate(owners.arrays)
                if mask[owners.elements(index)].all() and _is_narrow(array, values)
            }
            self.tables.append(tables)
            self.layers.append(users(trace, narrow_constants(trace, tables)))

    @property
    def is_there(self) -> bool:
        """True if a side holds such constants."""
        return any(self.layers)

    def split(
        self, found: Sequence[Finding], noise: Mapping[tuple[Part, str], float]
    ) -> tuple[list[Finding], list[Finding]]:
        """Return the differences above this noise, and those that it drowns: no bar so high is accepted."""
        above: list[Finding] = []
        drowned: list[Finding] = []
        for finding in found:
            bar = NARROW_MARGIN * noise.get((finding.part, finding.name), 0.0)
            if finding.value > bar:
                above.append(finding)
            elif finding.value > MOST_NARROW:
                drowned.append(finding)
            else:
                self.accepted = max(self.accepted, finding.value)
        return above, drowned

    def of_pass(
        self, inputs: tuple[Inputs, Inputs], training: bool, seed: int, size: float = UNIT
    ) -> Noise:
        """Return the differences of a pass if constants move by a fraction; both sides' are added."""
        factors = self.checker.weights(seed)

        def run() -> tuple[Pass, Pass]:
            return both(
                partial(self.left.run, inputs[0], training, factors[0]),
                partial(self.right.run, inputs[1], training, factors[1]),
            )

        one = run()
        with self._moved(size):
            other = run()
        sides = [_as_left(self.checker, *pair) for pair in (one, other)]
        noise: Noise = {}
        for ours, moved in zip(*sides, strict=True):
            for path, array in ours.outputs.items():
                key = part_of_output(path, training), path
                noise[key] = noise.get(key, 0.0) + relative(array, moved.outputs[path])
            for part, found in (
                (Part.buffers, by_name(ours.buffers, moved.buffers)),
                (Part.gradient, by_name(ours.gradients, moved.gradients)),
            ):
                for name, value in found.items():
                    noise[part, name] = noise.get((part, name), 0.0) + value
        return noise

    def of_outputs(self, inputs: tuple[Inputs, Inputs], size: float = UNIT) -> Noise:
        """Return the differences of the outputs in evaluation; both sides' are added."""

        def run() -> tuple[Trace, Trace]:
            return both(
                partial(self.left.trace, inputs[0], False),
                partial(self.right.trace, inputs[1], False),
            )

        one = run()
        with self._moved(size):
            other = run()
        return {
            (part_of_output(path, False), path): sum(
                relative(mine.outputs[name], moved.outputs[name])
                for name, mine, moved in zip((path, theirs), one, other, strict=True)
            )
            for path, (theirs, _) in self.checker.layouts.items()
        }

    def of_steps(
        self,
        batches: Sequence[tuple[Inputs, Inputs]],
        optimizer: OptimizerConfig,
        seed: int,
        size: float = UNIT,
    ) -> Noise:
        """Return the largest differences of weights over some steps; both sides' are added."""
        factors, trained = self.checker.weights(seed), self.checker.trained
        sides = (self.left, [b[0] for b in batches]), (self.right, [b[1] for b in batches])

        def run() -> list[list[Arrays]]:
            calls = [
                partial(side.train, inputs, factors[at], optimizer, trained[at])
                for at, (side, inputs) in enumerate(sides)
            ]
            return [[values for _, values in steps] for steps in both(*calls)]

        one = run()
        with self._moved(size):
            other = run()
        noise: Noise = {}
        for at, (steps, moved) in enumerate(zip(one, other, strict=True)):
            largest: dict[str, float] = {}
            for pair in zip(steps, moved, strict=True):
                before, after = (
                    self.checker.mapping.to_left(v, one[0][0]) if at else v for v in pair
                )
                for name, value in by_name(before, after).items():
                    largest[name] = max(value, largest.get(name, 0.0))
            for name, value in largest.items():
                noise[Part.update, name] = noise.get((Part.update, name), 0.0) + value
        return noise

    @contextmanager
    def _moved(self, size: float) -> Generator[None]:
        for nudge in (size, 0.0):
            for side, tables in zip((self.left, self.right), self.tables, strict=True):
                side.vary(nudge=nudge)
                side.load({name: nudged(values, nudge) for name, values in tables.items()})
            if nudge:
                yield


def _is_narrow(array: Array, values: Arrays) -> bool:
    """Return True for an array that is held in float32, or was made in it."""
    return array.dtype in NARROW or (not array.is_trained and is_rounded(values[array.name]))


def _as_left(checker: Checker, ours: Pass, theirs: Pass) -> tuple[Pass, Pass]:
    """Return both passes by the left side's names and layouts."""
    mapping, layouts = checker.mapping, checker.layouts
    left = {path: np.squeeze(ours.outputs[path]) for path in layouts}
    right = {
        path: layout.to_left(theirs.outputs[other]) for path, (other, layout) in layouts.items()
    }
    return (
        Pass(ours.loss, ours.gradients, left, ours.buffers),
        Pass(
            theirs.loss,
            mapping.sums_to_left(theirs.gradients),
            right,
            mapping.to_left(theirs.buffers, checker.left.values()),
        ),
    )
