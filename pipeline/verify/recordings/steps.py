"""One optimizer step of both recordings, in the names and layouts of the left one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.checks.differences import NEGLIGIBLE, by_name, largest
from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.precision import Precision
from pipeline.verify.verdict import Part

ROUNDINGS = 3  # of a weight in one update, on both sides together
NOISE = 10  # accepted multiple of how far a gradient differs
TOLD = 1e-3  # relative difference of two gradients above which their updates may be rounding

Sides = tuple[Arrays, Arrays]


@dataclass
class StepPair:
    """One step of both recordings; weights and gradients of the right side are laid out as the left's."""

    number: int
    precision: Precision
    names: dict[str, str]  # right arrays by the left name
    units: dict[str, float]  # relative distance of neighbouring numbers of each weight
    before: Sides  # weights
    after: Sides
    fields: dict[Part, list[FieldPair]] = field(default_factory=dict)  # batch, outputs, loss
    gradients: Sides | None = None
    missing: tuple[set[str], set[str]] = (set(), set())  # weights without gradient
    rates: tuple[float | None, float | None] = (None, None)  # learning rates, if recorded
    # Largest relative difference of each gradient so far: an update may differ by as much.
    noise: Arrays = field(default_factory=dict)
    earlier: "StepPair | None" = None

    @cached_property
    def is_finite(self) -> tuple[bool, bool]:
        """For each side, True if all its numbers are finite."""
        fields = [*self.fields[Part.training], *self.fields[Part.loss]]
        sides = [one.left for one in fields], [one.right for one in fields]
        for at, side in enumerate(sides):
            side += [*self.after[at].values(), *(self.gradients or ({}, {}))[at].values()]
        ours, theirs = (all(np.isfinite(array).all() for array in side) for side in sides)
        return ours, theirs

    @cached_property
    def updates(self) -> Sides:
        """Change of the weights since the recorded step before."""
        sides = zip(self.before, self.after, strict=True)
        ours, theirs = ({n: after[n] - before[n] for n in self.names} for before, after in sides)
        return ours, theirs

    @cached_property
    def buffers(self) -> list[str]:
        """Weights without a gradient on either side."""
        return [name for name in self.names if name in self.missing[0] & self.missing[1]]

    @cached_property
    def trained(self) -> list[str]:
        """All other weights."""
        return [name for name in self.names if name not in set(self.buffers)]

    def lists(
        self, sides: Sides, names: Iterable[str] | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the arrays of both sides in order: of the named or of all trained weights."""
        chosen = self.trained if names is None else [*names]
        ours, theirs = ([side[name] for name in chosen] for side in sides)
        return ours, theirs

    def elements(self, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all updates, gradients and weights of the left (0) or right (1) side, each in one row."""
        gradients = self.gradients or ({}, {})
        update, gradient, weights = (
            np.concatenate([side[name].ravel() for name in self.trained])
            for side in (self.updates[at], gradients[at], self.before[at])
        )
        return update, gradient, weights

    @cached_property
    def scale(self) -> float:
        """The largest update of any weight."""
        return max((largest(a) for side in self.lists(self.updates) for a in side), default=0.0)

    def excess(self, name: str, difference: np.ndarray) -> float:
        """Largest difference of two updates beyond what is tolerated, relative to the updates.

        The rounding of weights is tolerated, and that of gradients.
        """
        sides = (largest(side[name]) for side in self.updates)
        scale = max(*sides, NEGLIGIBLE * self.scale, 1e-300)
        size = np.maximum(np.abs(self.before[0][name]), np.abs(self.after[0][name]))
        tolerance = ROUNDINGS * self.units[name] * size + NOISE * scale * self.noise.get(name, 0.0)
        value = float((np.abs(difference) - tolerance).max(initial=0.0)) / scale
        return value if np.isfinite(difference).all() else np.inf

    def update_differences(self) -> dict[str, float]:
        """Return the excess of each trained weight's update."""
        ours, theirs = self.updates
        return {name: self.excess(name, ours[name] - theirs[name]) for name in self.trained}

    def gradient_differences(self) -> dict[str, float]:
        """Return the difference of each trained weight's gradient, if both sides have recorded them."""
        sides = [{n: side[n] for n in self.trained} for side in self.gradients or ()]
        return by_name(sides[0], sides[1], self.precision.negligible) if sides else {}

    def add_noise(self, ratio: float = 1.0) -> None:
        """Note how far the gradients of this step differ, the left ones being multiplied by `ratio`."""
        for name in self.trained if self.gradients else ():
            ours, theirs = (side[name] for side in self.gradients or ())
            size = np.maximum(np.abs(ratio * ours), np.abs(theirs))
            noise = np.abs(ratio * ours - theirs) / np.where(size > 0, size, 1.0)
            self.noise[name] = np.maximum(self.noise.get(name, 0.0), noise)

    def buffer_differences(self) -> dict[str, float]:
        """Return the difference of each buffer after the step, beyond what rounding has moved the weights by.

        A bias before a norm has a gradient of zero, which Adam turns into steps of any sign. They change
        no output, but the mean that the norm keeps.
        """
        ours, theirs = self.before
        moved = [largest((ours[n] - theirs[n]) * ~self.is_told(n)) for n in self.trained]
        shift = NOISE * max(moved, default=0.0)
        ours, theirs = ({name: side[name] for name in self.buffers} for side in self.after)
        for name, right in theirs.items():
            theirs[name] = right - np.clip(right - ours[name], -shift, shift)
        return by_name(ours, theirs, self.precision.negligible)

    def weight_difference(self) -> float:
        """Return the difference of the weights after the step, but for those that rounding alone moves."""
        ours, theirs = ({n: a[n] * self.is_told(n) for n in self.trained} for a in self.after)
        return max(by_name(ours, theirs).values(), default=0.0)

    def is_told(self, name: str) -> np.ndarray:
        """True for each element whose gradients agree well enough to tell its update from rounding."""
        return np.asarray(self.noise.get(name, np.zeros(self.before[0][name].shape)) < TOLD)
