"""Lanes: the same weights and batch, run in several ways, and what is to blame for their differences.

A lane is a side, a precision, and whether it is compiled. Two lanes are compared only if they differ in
one of the three, so that a difference is the port's, a compiler's or the precision's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.config.train import Precision
from pipeline.errors import RunFailed, UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.both import both
from pipeline.verify.checks.checker import Checker, moved
from pipeline.verify.sides.subject import Inputs, Pass
from pipeline.verify.verdict import SIDES, LaneEdge

# Differences that are always accepted, and accepted multiples of the noise: those of `pipeline.parity`.
BARS = {Precision.fp64: 1e-10, Precision.fp32: 1e-5, Precision.bf16: 2e-2}
MARGINS = {Precision.fp64: 100, Precision.fp32: 3, Precision.bf16: 3}
UNITS = {Precision.fp64: 2.0**-52, Precision.fp32: 2.0**-23, Precision.bf16: 2.0**-7}
PRECISIONS = (Precision.fp64, Precision.fp32, Precision.bf16)
PORT, COMPILER, PRECISION = "the port", "the compiler", "the precision"
# Arrays smaller than this fraction of the largest are zero but for rounding, even where code forces
# float32, and are compared with the largest.
ZERO = 1e-6

# Outputs and gradients, by part and name, as the left side has them.
Results = Mapping[str, Arrays]
Differences = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Lane:
    """A way to run one of the two models."""

    side: int  # 0 left, 1 right
    precision: Precision
    compiled: bool = False


@dataclass(frozen=True)
class Edge:
    """Two lanes that differ in one thing."""

    one: Lane
    other: Lane
    changes: str  # that thing

    @property
    def precision(self) -> Precision:
        """The narrower precision."""
        return self.other.precision

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of its lanes."""
        return tuple(sorted({self.one.side, self.other.side}))


def edges() -> Iterator[Edge]:
    """Yield all edges: those of the port, of each compiler, and of the precision on each side."""
    for precision in PRECISIONS:
        yield Edge(Lane(0, precision), Lane(1, precision), PORT)
    for side in (0, 1):
        for precision in PRECISIONS:
            yield Edge(Lane(side, precision), Lane(side, precision, True), COMPILER)
    for side in (0, 1):
        for precision in PRECISIONS[1:]:
            yield Edge(Lane(side, Precision.fp64), Lane(side, precision), PRECISION)


class Lanes:
    """Runs each lane once, in evaluation mode, and compares them."""

    def __init__(
        self, checker: Checker, inputs: tuple[Inputs, Inputs], seed: int, compiled: bool = True
    ) -> None:
        self.checker, self.seed = checker, seed
        self.modes = (False, True) if compiled else (False,)
        self.subjects = checker.left, checker.right
        # In float32, so that no side rounds what the other keeps.
        ours, theirs = checker.weights(seed)
        self.inputs = _in_float32(inputs[0]), _in_float32(inputs[1])
        self.factors = _in_float32(ours), _in_float32(theirs)
        self.results: dict[Lane, Results] = {}
        self.failures: dict[Lane, str] = {}
        self.noise: dict[tuple[int, Precision], Differences] = {}
        self.narrow = ["", ""]  # of each side: first operation that computes in less than fp64

    def compare(self, values: Arrays) -> list[LaneEdge]:
        """Compare all lanes, from the left side's values."""
        values = _in_float32(values)
        for precision in PRECISIONS:
            self.checker.load(values)
            for compiled in self.modes:
                for side, done in enumerate(self._run(precision, compiled)):
                    lane = Lane(side, precision, compiled)
                    if isinstance(done, str):
                        self.failures[lane] = done
                    else:
                        self.results[lane] = self._as_left(side, done)
                        self.narrow[side] = self.narrow[side] or done.narrow
            self.checker.load(moved(values, self.seed, UNITS[precision]))
            for side, done in enumerate(self._run(precision, False)):
                if not isinstance(done, str) and Lane(side, precision) in self.results:
                    still = self.results[Lane(side, precision)]
                    self.noise[side, precision] = self._differences(
                        still, self._as_left(side, done)
                    )
        self.checker.load(values)
        return [self._judge(edge) for edge in edges() if edge.other.compiled in self.modes]

    def _run(self, precision: Precision, compiled: bool) -> tuple[Pass | str, Pass | str]:
        left, right = (partial(self._lane, side, precision, compiled) for side in (0, 1))
        return both(left, right)

    def _lane(self, side: int, precision: Precision, compiled: bool) -> Pass | str:
        """Run a lane; return the reason if that is not possible."""
        given, factors = self.inputs[side], self.factors[side]
        try:
            return self.subjects[side].lane(given, False, factors, precision, compiled)
        except UserError as error:
            return error.problem or str(error)
        except RunFailed as error:
            return str(error)
        except Exception as error:  # any: of the framework, such as an operation without bf16
            return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"

    def _as_left(self, side: int, done: Pass) -> Results:
        """Outputs and gradients in the left side's names and layouts."""
        layouts, masks = self.checker.layouts, self.checker.trained[0]
        gradients = done.gradients
        if side == 1:
            outputs = {o: layout.to_left(done.outputs[t]) for o, (t, layout) in layouts.items()}
            gradients = self.checker.mapping.sums_to_left(gradients)
        else:
            outputs = {path: np.squeeze(done.outputs[path]) for path in layouts}
        none = np.zeros(1)
        used = {name: gradients.get(name, none) * mask for name, mask in masks.items()}
        return {"outputs": outputs, "gradients": used}

    def _differences(self, one: Results, other: Results) -> Differences:
        """Compare two lanes: the norm of each difference over that of the array in the first lane."""
        reference = next(iter(self.results.values()))
        found: dict[str, dict[str, float]] = {}
        for part, arrays in reference.items():
            sizes = {name: _norm(array) for name, array in arrays.items()}
            largest = max(sizes.values(), default=0.0)
            found[part] = {}
            for name, size in sizes.items():
                value = _norm(one[part][name] - other[part][name])
                scale = size if size > ZERO * largest else largest
                relative = value / max(scale, 1e-300)
                found[part][name] = relative if np.isfinite(relative) else np.inf
        return found

    def _judge(self, edge: Edge) -> LaneEdge:
        """Compare the two lanes of an edge."""
        start = (self._charge(edge), edge.precision.name, *self._names(edge))
        for lane in (edge.one, edge.other):
            if lane in self.failures:
                return LaneEdge(*start, reason=self.failures[lane])
        found = self._differences(self.results[edge.one], self.results[edge.other])
        worst, narrow = self._worst(edge, found, edge.precision), self._narrow(edge)
        # Once for all lanes, and where it decides.
        reason = narrow if edge.changes == PORT and edge.precision is Precision.fp64 else ""
        if edge.precision is Precision.fp64 and not _within(worst) and narrow:
            worst, reason = self._worst(edge, found, Precision.fp32), narrow
        outputs, gradients = worst
        if not _within(worst):
            above = outputs if outputs.value > outputs.bar else gradients
            kind = "output" if above is outputs else "gradient of"
            reason = "; ".join(filter(None, (f"{kind} {above.name}", reason)))
        values = outputs.value, gradients.value, outputs.bar, gradients.bar
        return LaneEdge(*start, *values, _within(worst), reason)

    def _worst(self, edge: Edge, found: Differences, precision: Precision) -> list["Worst"]:
        """Return the largest difference of each part, next to its bar: the noise of a precision."""
        noises = [n for side in edge.sides if (n := self.noise.get((side, precision)))]
        worst = []
        for part, values in found.items():
            # One array is a small sample: it may have as much noise as the others have.
            noise = {
                name: max((max(n[part][name], _median(n[part])) for n in noises), default=0.0)
                for name in values
            }
            one = [
                Worst(name, value, max(BARS[precision], MARGINS[precision] * noise[name]))
                for name, value in values.items()
            ]
            none = Worst("", 0.0, BARS[precision])
            worst.append(max(one, key=lambda item: item.value / item.bar, default=none))
        return worst

    def _charge(self, edge: Edge) -> str:
        return edge.changes if edge.changes == PORT else f"{edge.changes} of {SIDES[edge.one.side]}"

    def _names(self, edge: Edge) -> tuple[str, str]:
        lanes = (edge.one, edge.other)
        names = [self.subjects[lane.side].description.modes[lane.compiled] for lane in lanes]
        if edge.changes == PRECISION:
            names = [f"{n} {lane.precision.name}" for n, lane in zip(names, lanes, strict=True)]
        return names[0], names[1]

    def _narrow(self, edge: Edge) -> str:
        found = [(SIDES[side], self.narrow[side]) for side in edge.sides if self.narrow[side]]
        return "; ".join(
            f"{side} itself computes in {where}, in all lanes" for side, where in found
        )


@dataclass(frozen=True)
class Worst:
    """The output or gradient that differs most, next to its bar."""

    name: str
    value: float
    bar: float


def _within(worst: Sequence[Worst]) -> bool:
    return all(item.value <= item.bar for item in worst)


def _median(values: Mapping[str, float]) -> float:
    return float(np.median([*values.values()])) if values else 0.0


def _norm(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0


def _in_float32(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Round floats to float32, and keep them in float64."""
    return {
        name: array.astype(np.float32).astype(np.float64)
        if np.issubdtype(array.dtype, np.floating)
        else array
        for name, array in arrays.items()
    }
