"""One optimizer step of both recordings, in the names and layouts of the left one."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.checks.differences import NEGLIGIBLE, by_name, largest
from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.precision import Precision

ROUNDINGS = 3  # of a weight in one update, on both sides together
NOISE = 10  # accepted multiple of how far a gradient differs


@dataclass
class StepPair:
    """One step of both recordings; weights and gradients of the right side are laid out as the left's."""

    number: int
    precision: Precision
    names: dict[str, str]  # right arrays by the left name
    before: tuple[Arrays, Arrays]  # weights
    after: tuple[Arrays, Arrays]
    units: dict[str, float]  # relative distance of neighbouring numbers, by the type of each weight
    gradients: tuple[Arrays, Arrays] | None = None
    missing: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())  # without gradient
    rates: tuple[float | None, float | None] = (None, None)  # learning rates, if recorded
    batch: list[FieldPair] = field(default_factory=list)
    outputs: list[FieldPair] = field(default_factory=list)
    loss: list[FieldPair] = field(default_factory=list)
    # Largest relative difference of each gradient so far: an update may differ by as much.
    noise: Arrays = field(default_factory=dict)
    earlier: "StepPair | None" = None

    @cached_property
    def is_finite(self) -> tuple[bool, bool]:
        """For each side, True if all its numbers are finite."""
        fields = (*self.outputs, *self.loss)
        sides = [[one.left for one in fields], [one.right for one in fields]]
        for at, side in enumerate(sides):
            side += self.after[at].values()
            side += (self.gradients or ({}, {}))[at].values()
        ours, theirs = (all(np.isfinite(array).all() for array in side) for side in sides)
        return ours, theirs

    @cached_property
    def updates(self) -> tuple[Arrays, Arrays]:
        """Change of the weights since the recorded step before."""
        sides = zip(self.before, self.after, strict=True)
        ours, theirs = ({n: after[n] - before[n] for n in self.names} for before, after in sides)
        return ours, theirs

    @cached_property
    def buffers(self) -> list[str]:
        """Weights without a gradient on either side."""
        if self.gradients is None:
            return []
        return [name for name in self.names if name in self.missing[0] and name in self.missing[1]]

    @cached_property
    def trained(self) -> list[str]:
        """All other weights."""
        return [name for name in self.names if name not in set(self.buffers)]

    @cached_property
    def scale(self) -> float:
        """The largest update of any weight."""
        updates = (largest(side[name]) for side in self.updates for name in self.trained)
        return max(updates, default=0.0)

    def scale_of(self, name: str) -> float:
        """The largest update of an array, or a small fraction of the largest of all."""
        ours, theirs = (largest(side[name]) for side in self.updates)
        return max(ours, theirs, NEGLIGIBLE * self.scale, 1e-300)

    def tolerance(self, name: str) -> np.ndarray:
        """How far each element of two updates may differ: the rounding of weights, and of gradients."""
        size = np.maximum(np.abs(self.before[0][name]), np.abs(self.after[0][name]))
        rounding = ROUNDINGS * self.units[name] * size
        return rounding + NOISE * self.noise.get(name, np.zeros(())) * self.scale_of(name)

    def excess(self, name: str, difference: np.ndarray) -> float:
        """Largest difference of two updates beyond what is tolerated, relative to the updates."""
        beyond = np.abs(difference) - self.tolerance(name)
        value = float(beyond.max(initial=0.0)) / self.scale_of(name)
        return value if np.isfinite(difference).all() else np.inf

    def update_differences(self) -> dict[str, float]:
        """Return the excess of each trained weight's update."""
        ours, theirs = self.updates
        return {name: self.excess(name, ours[name] - theirs[name]) for name in self.trained}

    def add_noise(self, ratio: float = 1.0) -> None:
        """Note how far the gradients of this step differ, the left ones being multiplied by `ratio`."""
        if self.gradients is None:
            return
        for name in self.trained:
            ours, theirs = ratio * self.gradients[0][name], self.gradients[1][name]
            size = np.maximum(np.abs(ours), np.abs(theirs))
            noise = np.divide(np.abs(ours - theirs), size, out=np.zeros(size.shape), where=size > 0)
            self.noise[name] = np.maximum(self.noise.get(name, 0.0), noise)

    def buffer_differences(self) -> dict[str, float]:
        """Return the difference of each buffer after the step, beyond what rounding has moved the weights by.

        A bias before a norm has a gradient of zero, which Adam turns into steps of any sign. They change
        no output, but the mean that the norm keeps.
        """
        moved = (
            largest((self.before[0][name] - self.before[1][name]) * ~self.is_told(name))
            for name in self.trained
        )
        shift = NOISE * max(moved, default=0.0)
        sides = ({name: side[name] for name in self.buffers} for side in self.after)
        ours, theirs = sides
        for name, right in theirs.items():
            theirs[name] = ours[name] + np.sign(right - ours[name]) * np.maximum(
                np.abs(right - ours[name]) - shift, 0
            )
        return by_name(ours, theirs, self.precision.negligible)

    def is_told(self, name: str) -> np.ndarray:
        """True for each element whose gradients agree well enough to tell its update from rounding."""
        noise = self.noise.get(name)
        shape = self.before[0][name].shape
        return np.ones(shape, bool) if noise is None else noise < 1e-3
