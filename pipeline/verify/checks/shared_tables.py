"""The right model with the left one's tables where either holds them in float32.

Such tables differ by float32's rounding, and what follows from them by as much: a mistake of that size would
hide. Therefore both sides are given the same ones, and all else is held to the bar of float64. The tables
themselves may differ by the rounding of their making: a sine of position 1000 in float32 by 1e-4.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.both import both
from pipeline.verify.checks.differences import Layout, relative
from pipeline.verify.sides.subject import Edit, Inputs, Pass, Subject
from pipeline.verify.trace.constants import UNIT, fixed_results, narrow_constants
from pipeline.verify.trace.fingerprints import (
    Fingerprint,
    distance,
    fingerprint,
    is_informative,
)
from pipeline.verify.trace.graph import Op, Trace

SIMILAR = 1e-2  # distance of the fingerprints of tables that are compared
ROUNDINGS = 8  # of an angle, per position: accepted in a table

Key = tuple[object, ...]  # of a kind of pass


class SharedTables:
    """A right model that takes tables from the left one, once they are found for a kind of pass."""

    def __init__(self, left: Subject, right: Subject, arrays: Sequence[Arrays]) -> None:
        """Take both models, and the arrays in float32 that each holds without a counterpart."""
        self.left, self.right, self.arrays = left, right, arrays
        # In all else it is the right model.
        self.description = right.description
        self.values, self.load, self.vary = right.values, right.load, right.vary
        self.train, self.lane = right.train, right.lane
        self.edits: dict[Key, list[Edit]] = {}
        self.difference = 0.0  # largest one between tables that are shared
        self.is_complete = False  # after a call of `share`: all in float32 have found counterparts

    def share(self, inputs: tuple[Inputs, Inputs], training: bool) -> bool:
        """Find the tables of a kind of pass; return True if all in float32 have a counterpart.

        A table that differs by more than rounding keeps its own values.
        """

        def trace(keep: tuple[Collection[int], Collection[int]] = ((), ())) -> tuple[Trace, Trace]:
            return both(
                partial(self.left.trace, inputs[0], training, keep[0]),
                partial(self.right.trace, inputs[1], training, keep[1]),
            )

        traces = trace()
        places = [_Places(trace, names) for trace, names in zip(traces, self.arrays, strict=True)]
        found, is_complete = _pairs(*places)
        is_complete &= all(
            trace.ops[place].shape for trace in traces for place in narrow_constants(trace)
        )  # a single number of float32 is no table
        kept = trace(([ours for ours, _ in found], [theirs for _, theirs in found]))
        tables = [(kept[0].kept[ours], theirs, kept[1].kept[theirs]) for ours, theirs in found]
        edits = [self._edit(*table) for table in tables if _fits(table[0], table[2])]
        is_complete &= len(edits) == len(tables)
        self.is_complete = is_complete and (self.is_complete or not self.edits)
        self.edits[_key(inputs[1], training)] = [edit for edit in edits if edit]
        return is_complete

    def _edit(self, left: np.ndarray, place: int, right: np.ndarray) -> Edit | None:
        ours, theirs = (_once(left), _once(right)) if _repeats(left, right) else (left, right)
        layout = Layout(ours, theirs)
        far = relative(np.squeeze(ours), layout.to_left(theirs))
        if far > ROUNDINGS * UNIT * max(left.shape):
            return None
        self.difference = max(self.difference, far)
        return Edit(place, value=np.broadcast_to(layout.to_right(ours), right.shape).copy())

    def trace(
        self,
        inputs: Inputs,
        training: bool,
        keep: Collection[int] = (),
        until: int | None = None,
        edits: Sequence[Edit] = (),
    ) -> Trace:
        """Run the model once, with the left one's tables, and record its operations."""
        return self.right.trace(inputs, training, keep, until, self._with(edits, inputs, training))

    def run(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        edits: Sequence[Edit] = (),
    ) -> Pass:
        """Run the model forward and backward, with the left one's tables."""
        return self.right.run(inputs, training, weights, self._with(edits, inputs, training))

    def _with(self, edits: Sequence[Edit], inputs: Inputs, training: bool) -> Sequence[Edit]:
        """Return edits behind those that give a kind of pass the left one's tables."""
        return [*self.edits.get(_key(inputs, training), ()), *edits]


class _Places:
    """Results of a pass that no input or weight leads to."""

    def __init__(self, trace: Trace, arrays: Arrays) -> None:
        self.ops = trace.ops
        fixed, narrow = fixed_results(trace, arrays)
        used = {at for place, op in enumerate(trace.ops) if place not in fixed for at in op.inputs}
        used |= set(trace.results.values())
        self.prints: dict[int, Fingerprint] = {}
        for place in sorted(fixed):
            op = trace.ops[place]
            print_ = fingerprint(arrays[op.layer]) if op.layer in arrays else op.fingerprint
            if print_ is not None and op.shape and is_informative(print_):
                self.prints[place] = print_
        self.last = [place for place in self.prints if place in used]
        self.narrow = [place for place in self.prints if place in narrow]

    def find(self, other: "_Places", place: int, among: Iterable[int]) -> int | None:
        """Return the place whose result is most like one of the other side, in any layout."""
        print_, sizes = other.prints[place], _sizes(other.ops[place])
        found = [
            (distance(self.prints[at], print_), at)
            for at in among
            if (mine := _sizes(self.ops[at])) <= sizes or sizes <= mine
        ]
        near = min(found, default=(np.inf, 0))
        return near[1] if near[0] <= SIMILAR else None

    def pair(self, other: "_Places", place: int, found: dict[int, int]) -> bool:
        """Add the other side's place of a table in float32, or those of all that it is made of."""
        if place in found:
            return True
        theirs = other.find(self, place, other.prints)
        if theirs is not None:
            found[place] = theirs
            return True
        made = [at for at in self.ops[place].inputs if at in self.narrow]
        return bool(made) and all([self.pair(other, at, found) for at in made])


def _pairs(left: _Places, right: _Places) -> tuple[list[tuple[int, int]], bool]:
    """Pair the places of tables of which one is in float32; tell if each of these has a partner."""
    found: dict[int, int] = {}  # left places, by right ones
    used = [place for place in right.narrow if place in right.last]
    is_complete = all([right.pair(left, place, found) for place in used])
    for ours in set(left.narrow) & set(left.last):
        if right.find(left, ours, found) is None:
            more: dict[int, int] = {}
            is_complete &= left.pair(right, ours, more)
            found |= {theirs: mine for mine, theirs in more.items() if theirs not in found}
    for place, print_ in right.prints.items():  # two layers may hold the same table
        sizes = _sizes(right.ops[place])
        same = (
            known
            for known in found
            if np.array_equal(right.prints[known], print_) and _sizes(right.ops[known]) == sizes
        )
        if place not in found and (known := next(same, None)) is not None:
            found[place] = found[known]
    return [(ours, theirs) for theirs, ours in found.items()], is_complete


def _sizes(table: Op | np.ndarray) -> Counter[int]:
    """Sizes of a result's axes, in any order."""
    return Counter(size for size in table.shape if size > 1)


def _repeats(left: np.ndarray, right: np.ndarray) -> bool:
    return _sizes(left) != _sizes(right)


def _fits(left: np.ndarray, right: np.ndarray) -> bool:
    """True if two tables have the same sizes, but for repetition along some axes."""
    return not _repeats(left, right) or _sizes(_once(left)) == _sizes(_once(right))


def _once(table: np.ndarray) -> np.ndarray:
    """Return a table with length 1 along the axes on which it repeats the same values, such as the batch."""
    for axis in range(table.ndim):
        first = table.take([0], axis)
        if (table == first).all():
            table = first
    return table


def _key(inputs: Inputs, training: bool) -> Key:
    return (training, *((name, np.shape(array)) for name, array in inputs.items()))
