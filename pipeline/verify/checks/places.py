"""Where two passes part: the first results that the other side does not have."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.verify.alignment.layers import Owners, common_path
from pipeline.verify.trace.fingerprints import FIELDS, Index, is_informative
from pipeline.verify.trace.graph import Trace, ancestors

SOURCES = ("parameter", "buffer", "input", "constant")


@dataclass(frozen=True)
class Place:
    """A step of one side's pass that goes wrong.

    `ops` are its results that the other side does not have and that lead to a wrong output, in the order
    of execution; `before` and `after` the layers around it that hold parameters, `layer` the one it is in.
    """

    ops: tuple[int, ...]
    layer: str
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """The layer, or what it lies between; nothing if no layer is near."""
        if self.layer:
            return self.layer
        if self.before and self.after:
            return f"between {self.before} and {self.after}"
        if self.before:
            return f"after {self.before}"
        return f"before {self.after}" if self.after else ""


def matched(ours: Trace, theirs: Trace, tolerance: float) -> np.ndarray:
    """Tell of each of our results if the other side has it: 1 yes, 0 no, -1 it says nothing.

    Integers, masks and constants say nothing: they are found anywhere.
    """
    prints = [op.fingerprint for op in theirs.ops if op.fingerprint is not None]
    index = Index(np.stack(prints) if prints else np.zeros((0, len(FIELDS))))
    found = np.full(len(ours.ops), -1)
    for place, op in enumerate(ours.ops):
        if op.fingerprint is not None and op.name not in SOURCES and is_informative(op.fingerprint):
            found[place] = bool(index.find(op.fingerprint, tolerance))
    return found


def wrong_results(trace: Trace, found: np.ndarray, wrong: Collection[str]) -> list[int]:
    """Return the results that lead to the outputs `wrong` only through others that are not matched."""
    pending = [trace.results[path] for path in wrong if path in trace.results]
    guilty: set[int] = set()
    while pending:
        place = pending.pop()
        if place in guilty or found[place] == 1 or trace.ops[place].name in SOURCES:
            continue
        guilty.add(place)
        pending.extend(trace.ops[place].inputs)
    return sorted(guilty)


def first_place(
    trace: Trace, found: np.ndarray, wrong: Collection[str], owners: Owners
) -> Place | None:
    """Return where the wrong outputs begin: the earliest unmatched results up to the next layer."""
    guilty = [place for place in wrong_results(trace, found, wrong) if found[place] == 0]
    if not guilty:
        return None
    layers = layers_of(trace, owners)
    first = guilty[0]
    # Up to the next use of parameters: what comes later is a consequence.
    used = sorted({use.op for use in trace.uses if use.op > first})
    end = used[0] if used else len(trace.ops)
    ops = tuple(place for place in guilty if place <= end)
    inside = trace.ops[first].layer
    own = inside if _is_leaf(inside, layers.values()) else layers.get(first, "")
    before = _last(
        layers, sorted(ancestors(trace.ops, trace.ops[first].inputs), reverse=True), found
    )
    after = next(
        (layers[place] for place in guilty if place in layers and layers[place] != own), ""
    )
    return Place(ops, own, before, after, trace.ops[first].source)


def layers_of(trace: Trace, owners: Owners) -> dict[int, str]:
    """Names of the layers whose parameters an operation uses, by place; a fused norm is one layer.

    What a model's own code does with parameters has the common path of their names.
    """
    names: dict[int, str] = {}
    for use in trace.uses:
        layer, known = trace.ops[use.op].layer, use.elements[use.elements >= 0]
        if not layer and known.size:
            layer = common_path(owners.names(known))
        names.setdefault(use.op, layer)
    return names


def _is_leaf(layer: str, layers: Collection[str]) -> bool:
    """True for a layer that holds parameters itself, and no layers that do."""
    return layer in layers and not any(other.startswith(f"{layer}.") for other in layers if layer)


def _last(layers: dict[int, str], places: Sequence[int], found: np.ndarray) -> str:
    return next((layers[place] for place in places if place in layers and found[place] != 0), "")
