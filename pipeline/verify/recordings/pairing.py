"""Two recordings as pairs of steps, in the names and layouts of the left one."""

from dataclasses import asdict
from functools import cached_property

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.names.row_search import find_rows
from pipeline.verify.recordings.fields import Fields
from pipeline.verify.recordings.matching import Matcher, Matching, Weights
from pipeline.verify.recordings.precision import PRECISIONS, Precision, precision_of, rounded
from pipeline.verify.recordings.recording import Recording, Step
from pipeline.verify.recordings.steps import StepPair


class Pairing:
    """Pairs the steps of two recordings."""

    def __init__(self, left: Recording, right: Recording) -> None:
        self.left, self.right = left, right
        self.numbers = [number for number in left.numbers if number in set(right.numbers)]
        self.precision = max(left.precision, right.precision, key=lambda one: one.bar)
        self.batch, self.outputs, self.loss = Fields(), Fields(), Fields()

    @cached_property
    def start_precision(self) -> Precision:
        """The lower precision of the weights before the first step."""
        types = {*self.left.dtypes.values(), *self.right.dtypes.values()}
        return max(filter(None, map(precision_of, types)), key=lambda one: one.bar)

    @cached_property
    def matching(self) -> Matching:
        """The match of the weights of both sides."""
        sides: list[Weights] = []
        for recording in (self.left, self.right):
            start = recording.start()
            weights = Weights({n: rounded(a, self.start_precision) for n, a in start.items()})
            for number in dict.fromkeys([*self.numbers[:1], *self.numbers[-1:]]):
                step = recording.step(number)
                weights.later += [_normalised(step.gradients or {}), step.weights]
            sides.append(weights)
        for at, (ours, theirs) in enumerate(zip(sides[0].later, sides[1].later, strict=True)):
            if not ours or not theirs:  # gradients that one side alone has tell nothing
                sides[0].later[at] = sides[1].later[at] = {}
        return Matcher(*sides).match()

    @cached_property
    def names(self) -> dict[str, str]:
        """Right arrays by the left array that shares elements with them."""
        mapping = self.matching.mapping
        found: dict[str, list[str]] = {}
        for index, array in enumerate(mapping.right.arrays):
            sources = mapping.source[mapping.right.elements(index)]
            for name in mapping.left.names(sources[sources >= 0]):
                found.setdefault(name, []).append(array.name)
        order = [array.name for array in mapping.left.arrays if array.name in found]
        return {name: ", ".join(found[name]) for name in order}

    @cached_property
    def units(self) -> dict[str, float]:
        """Distance of neighbouring numbers of each left weight, in the lower of both precisions."""
        found = {}
        for name, others in self.names.items():
            types = [
                self.left.dtypes[name],
                *(self.right.dtypes[one] for one in others.split(", ")),
            ]
            found[name] = max((precision_of(t) or PRECISIONS["float32"]).unit for t in types)
        return found

    def start(self) -> tuple[Arrays, Arrays]:
        """Return the weights of both sides before the first step."""
        return self._mapped(self.left.start(), self.right.start())

    def step(self, number: int, earlier: StepPair | None) -> StepPair:
        """Return a step; `earlier` is the recorded one before it."""
        ours, theirs = self.left.step(number), self.right.step(number)
        return StepPair(
            number,
            self.precision,
            self.names,
            earlier.after if earlier else self.start(),
            self._mapped(ours.weights, theirs.weights),
            self.units,
            self._gradients(ours, theirs),
            self._missing(ours, theirs),
            (_number(ours.learning_rate), _number(theirs.learning_rate)),
            self.batch.pair(ours.batch, theirs.batch),
            self.outputs.pair(ours.outputs, theirs.outputs),
            self.loss.pair(ours.loss, theirs.loss),
            dict(earlier.noise) if earlier else {},
            earlier,
        )

    def _mapped(self, left: Arrays, right: Arrays) -> tuple[Arrays, Arrays]:
        """Return the weights of both sides by left names, in double precision."""
        mapped = self.matching.mapping.to_left(right, left)
        ours = {name: np.asarray(left[name], np.float64) for name in self.names}
        return ours, {name: mapped[name] for name in self.names}

    def _gradients(self, left: Step, right: Step) -> tuple[Arrays, Arrays] | None:
        """Return the gradients of both sides: the sum of tied weights', zero where there is none."""
        if left.gradients is None or right.gradients is None:
            return None
        found = self.matching.mapping.sums_to_left(right.gradients)
        theirs = {name: found[name] for name in self.names}
        ours = {n: left.gradients.get(n, np.zeros(a.shape)) for n, a in theirs.items()}
        return {name: np.asarray(a, np.float64) for name, a in ours.items()}, theirs

    def _missing(self, left: Step, right: Step) -> tuple[frozenset[str], frozenset[str]]:
        """Names of the weights without a gradient on either side."""
        ours, theirs = left.gradients or {}, right.gradients or {}
        return (
            frozenset(name for name in self.names if name not in ours),
            frozenset(
                n for n, other in self.names.items() if not set(other.split(", ")) & set(theirs)
            ),
        )


def _normalised(gradients: Arrays) -> Arrays:
    """Return gradients over their norm: one side may have clipped them."""
    norm = np.sqrt(sum(float(np.vdot(a, a)) for a in gradients.values()))
    return {name: a / norm for name, a in gradients.items()} if 0 < norm < np.inf else gradients


def describe(mapping: Mapping) -> list[dict[str, str]]:
    """Return which array of the left is which of the right, and how it is laid out there."""
    return [asdict(row) for row in find_rows(mapping)]


def _number(arrays: Arrays) -> float | None:
    return float(next(iter(arrays.values())).flat[0]) if arrays else None
