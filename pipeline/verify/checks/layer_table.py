"""Layers of two models in the order of execution, and by how much they differ."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.verify.alignment.layers import MATRICES, Layer, Owners, find_layers
from pipeline.verify.alignment.mapping import Mapping as Elements
from pipeline.verify.alignment.match import Match
from pipeline.verify.trace.fingerprints import FIELDS, Fingerprint, Index, distance
from pipeline.verify.trace.graph import Trace
from pipeline.verify.verdict import LayerDifference, Part, Verdict

TOLERANCE = 1e-9  # of what both sides have
PLACES = ("result", "op")  # of a layer's result: with its summand, and without


def layer_table(
    matches: Sequence[Match],
    mapping: Elements,
    passes: Sequence[tuple[Trace, Trace]],
    gradients: Mapping[str, float],
) -> list[LayerDifference]:
    """Return the layers of both sides; of several passes the largest differences.

    `gradients` are the differences of the left side's arrays.
    """
    rows: dict[tuple[str, str], LayerDifference] = {}
    sides = [(Side(left, mapping.left), Side(right, mapping.right)) for left, right in passes]
    for match in sorted(matches, key=lambda match: match.left[0].op):
        key = _names(match.left), _names(match.right)
        row = rows.setdefault(key, LayerDifference(*key))
        for left, right in sides:
            row.data = _larger(row.data, left.data_distance(right, match))
            row.forward = _larger(row.forward, left.result_distance(right, match))
        for layer in match.left:
            for name in layer.arrays:
                row.backward = _larger(row.backward, gradients.get(name))
    return list(rows.values())


def find_parting(verdict: Verdict) -> int | None:
    """Return the row of `verdict.layers` where the two part; None if it is in none of them."""
    first, rows = verdict.first, verdict.layers
    if first is None:
        return None
    numbers = range(len(rows))
    owners = [i for i in numbers if _holds(rows[i].left, first.left)]
    if first.part in (Part.forward, Part.training, Part.loss) and not owners:
        wrong = [i for i in numbers if max(rows[i].data or 0.0, rows[i].forward or 0.0) > TOLERANCE]
        return min(wrong, default=None)
    if first.part == Part.gradient and not owners:
        owners = [i for i in numbers if (rows[i].backward or 0.0) > TOLERANCE]
    return max(owners, default=None)  # a gradient comes from the last layer


class Side:
    """A pass of one side, with its layers by the parameters that they use."""

    def __init__(self, trace: Trace, owners: Owners) -> None:
        self.trace = trace
        self.layers = {layer.key: layer for layer in find_layers(trace, owners)}
        prints = [op.fingerprint for op in trace.ops if op.fingerprint is not None]
        self.index = Index(np.stack(prints) if prints else np.zeros((0, len(FIELDS))))

    def result_distance(self, other: "Side", match: Match) -> float | None:
        """Return the distance of a match's results, the closest that can be compared."""
        found = []
        for place in PLACES:
            ours, theirs = self.print(match.left, place), other.print(match.right, place)
            if ours is None or theirs is None:
                continue
            found.append(distance(ours, theirs))
            # One side may scale a norm's factor, where the other scales its result.
            found += other.nearest(ours)
            found += self.nearest(theirs)
        return min(found, default=None)

    def data_distance(self, other: "Side", match: Match) -> float | None:
        """Return the distance of what matrices are applied to; norms are written in too many ways."""
        if match.left[0].role not in MATRICES:
            return None
        pairs = zip(self.data(match.left[0]), other.data(match.right[0]), strict=False)
        return min((distance(*pair) for pair in pairs), default=None)

    def print(self, layers: Sequence[Layer], place: str) -> Fingerprint | None:
        """Return the fingerprint of the results of layers, all values together."""
        mine = [self.layers.get(layer.key) for layer in layers]
        ops = [self.trace.ops[getattr(layer, place)] for layer in mine if layer is not None]
        prints = [op.fingerprint for op in ops if op.fingerprint is not None]
        if len(prints) < len(layers):
            return None
        return join(prints, [int(np.prod(op.shape)) for op in ops])

    def data(self, layer: Layer) -> Iterator[Fingerprint]:
        """Yield fingerprints of what a layer is applied to: as it takes it, and before its view."""
        mine = self.layers.get(layer.key)
        for place in (mine.data, mine.root) if mine else ():
            if place is not None and (print_ := self.trace.ops[place].fingerprint) is not None:
                yield print_

    def nearest(self, print_: Fingerprint) -> list[float]:
        """Return the distance of the nearest result of this side, if one is the same."""
        return [
            distance(print_, self.index.prints[at]) for at in self.index.find(print_, TOLERANCE)[:1]
        ]


def join(prints: Sequence[Fingerprint], sizes: Sequence[int]) -> Fingerprint:
    """Return the fingerprint of several arrays together."""
    if len(prints) == 1:
        return prints[0]
    rms, mean, magnitude, cube, low, high = np.stack(prints, axis=1)

    def average(values: np.ndarray) -> float:
        return float(np.average(values, weights=sizes))

    return np.array(
        [
            np.sqrt(average(rms**2)),
            average(mean),
            average(magnitude),
            np.cbrt(average(cube**3)),
            low.min(),
            high.max(),
        ]
    )


def _names(layers: Sequence[Layer]) -> str:
    return ", ".join(dict.fromkeys(layer.name for layer in layers))


def _holds(names: str, array: str) -> bool:
    """True if one of the layers is, or holds, an array or layer of that name."""
    return any(array == name or array.startswith(f"{name}.") for name in names.split(", "))


def _larger(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
