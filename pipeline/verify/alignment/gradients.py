"""Matches of single elements by their gradients, where structure does not tell what belongs together.

Two matrices of one side may be a single one of the other, and two biases that are added a single bias. Once
all elements without a counterpart have a neutral value, both sides compute the same, and elements that
belong together have the same gradients, in whatever order they are stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.rng import generator
from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Layer, Owners
from pipeline.verify.alignment.match import Match
from pipeline.verify.both import both
from pipeline.verify.checks.differences import MARGIN, MOST_NOISE, Layout, match_outputs, relative
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.graph import Role

SAME = 1e-10  # relative difference of gradients that agree
NEUTRAL = {Role.scale: 1.0, Role.other: 1.0, Role.dot: 0.125, Role.conv: 0.125}


@dataclass(frozen=True)
class Part:
    """A side whose elements are matched: `free` is True for those that have no counterpart yet."""

    subject: Subject
    inputs: Inputs
    owners: Owners
    free: np.ndarray

    @property
    def candidates(self) -> np.ndarray:
        """Numbers of the elements that are trained and have no counterpart."""
        trained = [
            np.full(int(np.prod(array.shape)), array.is_trained) for array in self.owners.arrays
        ]
        return np.flatnonzero(self.free & np.concatenate([*trained, np.zeros(0, bool)]))

    def gradients(self, arrays: Arrays, numbers: np.ndarray) -> np.ndarray:
        """Return the gradients of elements."""
        flat = np.zeros(self.owners.size)
        for array, start, end in zip(
            self.owners.arrays, self.owners.starts, self.owners.ends, strict=True
        ):
            if array.name in arrays:
                flat[start:end] = arrays[array.name].ravel()
        return flat[numbers]


def neutral(layers: Sequence[Layer], owners: Owners) -> np.ndarray:
    """Return values that no reordering changes: all elements of a matrix or vector have the same."""
    values = np.zeros(owners.size)
    for layer in layers:
        values[layer.elements[layer.elements >= 0]] = NEUTRAL.get(layer.role, 0.0)
    return values


def match_elements(
    left: Part, right: Part, seed: int, ambiguous: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the numbers of left and right elements that belong together; None if outputs differ.

    Elements with the same gradients are left out, or with `ambiguous` matched in their order.
    """
    ours, theirs = left.candidates, right.candidates
    if not len(ours) or not len(theirs):
        return None
    outputs = both(
        partial(left.subject.trace, left.inputs, False),
        partial(right.subject.trace, right.inputs, False),
    )
    found = outputs[0].outputs, outputs[1].outputs
    try:
        layouts = {
            path: (other, Layout(found[0][path], found[1][other]))
            for path, other in match_outputs(*found).items()
        }
    except ValueError:  # an output has another shape on either side
        return None
    differences = [
        relative(np.squeeze(found[0][path]), layout.to_left(found[1][other]))
        for path, (other, layout) in layouts.items()
    ]
    if not differences or max(differences) > MOST_NOISE:
        return None
    tolerance = max(SAME, MARGIN * max(differences))
    factors: tuple[Arrays, Arrays] = {}, {}
    for path, (other, layout) in layouts.items():
        factor = generator(seed, "alignment", path).standard_normal(found[0][path].shape)
        factors[0][path], factors[1][other] = factor, layout.to_right(factor)
    passes = both(
        partial(left.subject.run, left.inputs, False, factors[0]),
        partial(right.subject.run, right.inputs, False, factors[1]),
    )
    values = left.gradients(passes[0].gradients, ours), right.gradients(passes[1].gradients, theirs)
    return _same_values(ours, theirs, *values, tolerance, ambiguous)


def _same_values(
    ours: np.ndarray,
    theirs: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    tolerance: float,
    ambiguous: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the elements with the same values, each once."""
    scale = max(np.abs(left).max(), np.abs(right).max())
    keep = np.abs(left) > tolerance / 100 * scale, np.abs(right) > tolerance / 100 * scale
    ours, left, theirs, right = ours[keep[0]], left[keep[0]], theirs[keep[1]], right[keep[1]]
    joined = np.concatenate([left, right])
    order = np.argsort(joined, kind="stable")
    # Values closer than the tolerance are in one group.
    groups = np.zeros(len(joined), int)
    groups[order[1:]] = np.cumsum(np.diff(joined[order]) > tolerance * scale)
    mine, its = groups[: len(left)], groups[len(left) :]
    counts = np.bincount(mine, minlength=len(joined)), np.bincount(its, minlength=len(joined))
    fits = np.minimum(*counts) if ambiguous else (counts[0] == 1) & (counts[1] == 1)
    chosen = [_first_of_each(side, fits) for side in (mine, its)]
    return ours[chosen[0]], theirs[chosen[1]]


def _first_of_each(groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the places of the first `counts` entries of each group, by group."""
    order = np.argsort(groups, kind="stable")
    ranks = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    return order[ranks < counts[groups[order]]]


def matches_of(
    ours: np.ndarray, theirs: np.ndarray, layers: tuple[Sequence[Layer], Sequence[Layer]]
) -> list[Match]:
    """Return the matches of layers that hold the elements; `theirs` are those on the right."""
    owner = np.full(1 + max(int(ours.max(initial=0)), 1), -1)  # places of left layers, by element
    for at, layer in reversed(list(enumerate(layers[0]))):
        for part in layer.parts:
            owner[part[(part >= 0) & (part < len(owner))]] = at
    source = np.full(1 + max(int(theirs.max(initial=0)), 1), -1)
    source[theirs] = ours
    matches = []
    for layer in layers[1]:
        for part in layer.parts:
            numbers = part[(part >= 0) & (part < len(source))]
            numbers = numbers[source[numbers] >= 0]
            if not len(numbers):
                continue
            mine = source[numbers]
            source[numbers] = -1
            left = _of(layers[0][int(owner[mine[0]])], mine)
            matches.append(Match([left], [_of(layer, numbers)], is_confirmed=True))
    return matches


def _of(layer: Layer, elements: np.ndarray) -> Layer:
    return replace(layer, role=Role.other, elements=elements, shift=None, shape=())
