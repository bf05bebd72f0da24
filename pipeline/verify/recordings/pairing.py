"""Two recordings as pairs of steps, in the names and layouts of the left one."""

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.recordings.fields import Fields
from pipeline.verify.recordings.matching import Matcher
from pipeline.verify.recordings.precision import lowest, rounded
from pipeline.verify.recordings.recording import Recording
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.recordings.weights import Weights
from pipeline.verify.verdict import Part

# Parts of a step by their name in a recording.
FIELDS = {Part.batch: "batch", Part.training: "outputs", Part.loss: "loss"}


class Pairing:
    """Pairs the steps of two recordings."""

    def __init__(self, left: Recording, right: Recording) -> None:
        self.left, self.right = left, right
        self.numbers = [number for number in left.numbers if number in set(right.numbers)]
        self.precision = max(left.precision, right.precision, key=lambda one: one.bar)
        # Of the weights before the first step.
        self.start_precision = lowest([*left.dtypes.values(), *right.dtypes.values()])
        self.fields = {part: Fields() for part in FIELDS}
        later = [self._later(left), self._later(right)]
        for arrays, others in zip(*later, strict=True):
            if not arrays or not others:  # gradients that one side alone has tell nothing
                arrays.clear()
                others.clear()
        sides = [
            Weights({n: rounded(a, self.start_precision) for n, a in side.start().items()}, arrays)
            for side, arrays in zip((left, right), later, strict=True)
        ]
        self.matching = Matcher(*sides).match()
        self.mapping = self.matching.mapping
        self.names = self._names()

    def _later(self, recording: Recording) -> list[Arrays]:
        """Gradients and weights of the first and of the last step."""
        steps = map(recording.step, dict.fromkeys([*self.numbers[:1], *self.numbers[-1:]]))
        return [array for s in steps for array in (_normalised(s["gradients"]), s["weights"])]

    def _names(self) -> dict[str, list[str]]:
        """Right arrays by the left array that shares elements with them."""
        found: dict[str, list[str]] = {array.name: [] for array in self.mapping.left.arrays}
        for index, array in enumerate(self.mapping.right.arrays):
            sources = self.mapping.source[self.mapping.right.elements(index)]
            for name in self.mapping.left.names(sources[sources >= 0]):
                found[name].append(array.name)
        return {name: others for name, others in found.items() if others}

    def unit(self, name: str) -> float:
        """Distance of neighbouring numbers of a left weight, in the lower of both sides' precisions."""
        types = [self.left.dtypes[name], *(self.right.dtypes[one] for one in self.names[name])]
        return lowest(types).unit

    def start(self) -> tuple[Arrays, Arrays]:
        """Return the weights of both sides before the first step."""
        return self._mapped(self.left.start(), self.right.start())

    def step(self, number: int, earlier: StepPair | None) -> StepPair:
        """Return a step; `earlier` is the recorded one before it."""
        ours, theirs = self.left.step(number), self.right.step(number)
        gradients, missing = None, (set(), set())
        if ours["gradients"] and theirs["gradients"]:
            # Those of tied weights are added up; one that is missing is zero.
            sums = self.mapping.sums_to_left(theirs["gradients"])
            gradients = self._mapped(ours["gradients"], {})[0], {n: sums[n] for n in self.names}
            missing = (
                set(self.names) - set(ours["gradients"]),
                {
                    n
                    for n, others in self.names.items()
                    if not set(others) & set(theirs["gradients"])
                },
            )
        return StepPair(
            number,
            self.precision,
            {name: ", ".join(others) for name, others in self.names.items()},
            {name: self.unit(name) for name in self.names},
            earlier.after if earlier else self.start(),
            self._mapped(ours["weights"], theirs["weights"]),
            {
                p: fields.pair(ours[FIELDS[p]], theirs[FIELDS[p]])
                for p, fields in self.fields.items()
            },
            gradients,
            missing,
            (_number(ours["learning_rate"]), _number(theirs["learning_rate"])),
            dict(earlier.noise) if earlier else {},
            earlier,
        )

    def _mapped(self, left: Arrays, right: Arrays) -> tuple[Arrays, Arrays]:
        """Return arrays of both sides by left names, in double precision; zeros where there are none."""
        shapes = {array.name: array.shape for array in self.mapping.left.arrays}
        zeros = {name: np.zeros(shapes[name]) for name in self.names}
        ours = {n: np.asarray(left.get(n, zero), np.float64) for n, zero in zeros.items()}
        mapped = self.mapping.to_left(right, left)
        return ours, {name: mapped[name] for name in self.names}


def _normalised(gradients: Arrays) -> Arrays:
    """Return gradients over their norm: one side may have clipped them."""
    norm = np.sqrt(sum(float(np.vdot(a, a)) for a in gradients.values()))
    return {name: a / norm for name, a in gradients.items()} if 0 < norm < np.inf else gradients


def _number(arrays: Arrays) -> float | None:
    return float(next(iter(arrays.values())).flat[0]) if arrays else None
