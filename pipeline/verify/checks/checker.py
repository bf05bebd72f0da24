"""Comparison of two aligned models, part by part, with the noise of one of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from pipeline.config.optimizers import OptimizerConfig
from pipeline.rng import generator
from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.align import Alignment
from pipeline.verify.both import both
from pipeline.verify.checks.differences import Layout, by_name, match_outputs, relative
from pipeline.verify.checks.finite import require_finite_gradients
from pipeline.verify.sides.outputs import LOSS
from pipeline.verify.sides.subject import Inputs, Pass, Subject
from pipeline.verify.verdict import Part, part_of_output


@dataclass(frozen=True)
class Finding:
    """Difference of one output or array of the two sides, by the left side's name."""

    part: Part
    name: str
    value: float
    seed: int = 0
    training: bool = False
    step: int = 0


class Checker:
    """Runs both models from the same weights, and compares what comes of it."""

    def __init__(self, left: Subject, right: Subject, alignment: Alignment) -> None:
        self.left, self.right, self.alignment = left, right, alignment
        self.mapping = alignment.mapping
        self.own = right.values()  # what has no counterpart keeps its own values
        self.layouts: dict[str, tuple[str, Layout]] = {}  # of outputs, by the left side's path

    def load(self, values: Arrays) -> None:
        """Give both sides the same weights."""
        self.left.load(values)
        self.right.load(self.mapping.to_right(values, self.own))

    def match_outputs(self, left: Arrays, right: Arrays) -> None:
        """Match the outputs of both sides, with their layouts.

        Raises:
            ValueError: an output has another shape on either side.
        """
        self.shapes = {path: array.shape for path, array in left.items()}
        self.layouts = {
            ours: (theirs, Layout(left[ours], right[theirs]))
            for ours, theirs in match_outputs(left, right).items()
        }

    def weights(self, seed: int) -> tuple[Arrays, Arrays]:
        """Draw the factors of the outputs in the loss, in each side's layout; the user's own is the loss."""
        if LOSS in self.layouts:
            return {LOSS: np.ones(())}, {LOSS: np.ones(())}
        ours, theirs = {}, {}
        for path, (other, layout) in self.layouts.items():
            shape = self.shapes[path]
            factors = generator(seed, "projection", path).standard_normal(shape) / np.sqrt(
                np.prod(shape)
            )
            ours[path] = factors
            theirs[other] = layout.to_right(factors)
        return ours, theirs

    def compare_pass(
        self, inputs: tuple[Inputs, Inputs], training: bool, seed: int
    ) -> Iterator[Finding]:
        """Compare a forward and a backward pass."""
        factors = self.weights(seed)
        ours, theirs = both(
            partial(self.left.run, inputs[0], training, factors[0]),
            partial(self.right.run, inputs[1], training, factors[1]),
        )
        require_finite_gradients({"left": ours, "right": theirs})
        yield from self.compare_passes(ours, theirs, training, seed)

    def compare_passes(
        self, ours: Pass, theirs: Pass, training: bool, seed: int
    ) -> Iterator[Finding]:
        """Compare the outputs, buffers and gradients of two passes."""
        for path, (other, layout) in self.layouts.items():
            value = relative(np.squeeze(ours.outputs[path]), layout.to_left(theirs.outputs[other]))
            yield Finding(part_of_output(path, training), path, value, seed, training)
        yield from self._compare(Part.buffers, *self._buffers(ours, theirs), seed, training)
        yield from self._compare(Part.gradient, *self._gradients(ours, theirs), seed, training)

    def noise_of_pass(
        self, inputs: Inputs, training: bool, seed: int
    ) -> dict[tuple[Part, str], float]:
        """Compare a pass of the left model with itself, its weights moved by one unit in the last place."""
        factors, _ = self.weights(seed)
        values = self.left.values()
        one = self.left.run(inputs, training, factors)
        self.left.load(moved(values, seed))
        other = self.left.run(inputs, training, factors)
        self.left.load(values)
        found = {
            (part_of_output(path, training), path): relative(one.outputs[path], other.outputs[path])
            for path in self.layouts
        }
        gradients = by_name(self._used(one.gradients), self._used(other.gradients))
        found |= {(Part.gradient, name): value for name, value in gradients.items()}
        buffers = by_name(one.buffers, other.buffers)
        return found | {(Part.buffers, name): value for name, value in buffers.items()}

    def compare_steps(
        self,
        batches: Sequence[tuple[Inputs, Inputs]],
        optimizer: OptimizerConfig,
        seed: int,
    ) -> Iterator[Finding]:
        """Compare the weights and buffers after each optimizer step."""
        factors = self.weights(seed)
        trained = self.trained
        ours, theirs = both(
            partial(self.left.train, [b[0] for b in batches], factors[0], optimizer, trained[0]),
            partial(self.right.train, [b[1] for b in batches], factors[1], optimizer, trained[1]),
        )
        for step, ((_, left), (_, right)) in enumerate(zip(ours, theirs, strict=True), 1):
            mapped = self.mapping.to_left(right, left)
            for name, value in by_name(left, mapped).items():
                yield Finding(Part.update, name, value, seed, True, step)

    def noise_of_steps(
        self, batches: Sequence[Inputs], optimizer: OptimizerConfig, seed: int
    ) -> dict[str, float]:
        """Compare steps of the left model with itself, its weights moved; the largest of all steps."""
        factors, _ = self.weights(seed)
        values, masks = self.left.values(), self.trained[0]
        one = self.left.train(batches, factors, optimizer, masks)
        self.left.load(moved(values, seed))
        other = self.left.train(batches, factors, optimizer, masks)
        self.left.load(values)
        steps = [by_name(mine, its) for (_, mine), (_, its) in zip(one, other, strict=True)]
        return {name: max(step[name] for step in steps) for name in steps[0]}

    @cached_property
    def trained(self) -> tuple[Arrays, Arrays]:
        """Parameters that learn on each side, with True for each element that has a counterpart."""
        used = self.mapping.is_used, self.mapping.source >= 0
        sides = (
            (self.left.description, self.mapping.left),
            (self.right.description, self.mapping.right),
        )
        masks: list[Arrays] = []
        for (description, owners), known in zip(sides, used, strict=True):
            arrays = enumerate(description.arrays)
            found = {a.name: known[owners.elements(i)] for i, a in arrays if a.is_trained}
            masks.append({name: mask for name, mask in found.items() if mask.any()})
        return masks[0], masks[1]

    def _compare(
        self, part: Part, ours: Arrays, theirs: Arrays, seed: int, training: bool
    ) -> Iterator[Finding]:
        for name, value in by_name(ours, theirs).items():
            yield Finding(part, name, value, seed, training)

    def _buffers(self, ours: Pass, theirs: Pass) -> tuple[Arrays, Arrays]:
        """Buffers after a pass that either side has changed, in the left side's layouts."""
        left = {**self.left.values(), **ours.buffers}
        right = {**self.right.values(), **theirs.buffers}
        mapped = self.mapping.to_left(right, left)
        changed = [
            name
            for name in left
            if name in ours.buffers or not np.array_equal(left[name], mapped[name])
        ]
        return {n: left[n] for n in changed}, {n: mapped[n] for n in changed}

    def _gradients(self, ours: Pass, theirs: Pass) -> tuple[Arrays, Arrays]:
        """Gradients of all that both sides train; of tied parameters their sum."""
        right = self.mapping.sums_to_left(theirs.gradients)
        names = self.trained[0]
        left = self._used(ours.gradients)
        return left, {name: right[name] * names[name] for name in left}

    def _used(self, gradients: Mapping[str, np.ndarray]) -> Arrays:
        shapes = {array.name: array.shape for array in self.left.description.arrays}
        return {
            name: gradients[name] * mask if name in gradients else np.zeros(shapes[name])
            for name, mask in self.trained[0].items()
        }


def moved(values: Arrays, seed: int, unit: float = 2.0**-52) -> Arrays:
    """Return values moved by one unit in the last place, up or down."""
    return {
        name: array * (1 + unit * generator(seed, "ulp", name).choice([-1, 1], array.shape))
        for name, array in values.items()
    }
