"""Matches of single elements by their gradients, where structure does not tell what belongs together.

Two matrices on one side may be one on the other, a sum of two biases one of them. With all elements that
are left at a neutral value, both sides compute the same, and elements that belong together have the same
gradients, however they are arranged.
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
from pipeline.verify.checks.differences import Layout, match_outputs, relative
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.graph import Role

SAME = 1e-10  # relative difference of outputs and gradients that agree
NOTHING = 1e-12  # gradients below this part of the largest are zero


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
    """Return a value for each element at which it does as little as can be: one of factors, else zero."""
    values = np.zeros(owners.size)
    for layer in layers:
        if layer.role in (Role.scale, Role.other):
            values[layer.elements[layer.elements >= 0]] = 1.0
    return values


def match_elements(left: Part, right: Part, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the numbers of left and right elements that belong together; None if outputs differ."""
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
    for path, (other, layout) in layouts.items():
        if relative(np.squeeze(found[0][path]), layout.to_left(found[1][other])) > SAME:
            return None
    factors: tuple[Arrays, Arrays] = {}, {}
    for path, (other, layout) in layouts.items():
        factor = generator(seed, "alignment", path).standard_normal(found[0][path].shape)
        factors[0][path], factors[1][other] = factor, layout.to_right(factor)
    passes = both(
        partial(left.subject.run, left.inputs, False, factors[0]),
        partial(right.subject.run, right.inputs, False, factors[1]),
    )
    values = left.gradients(passes[0].gradients, ours), right.gradients(passes[1].gradients, theirs)
    return _same_values(ours, theirs, *values)


def _same_values(
    ours: np.ndarray, theirs: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the elements with the same values, each once; those with equal values in their order."""
    scale = max(np.abs(left).max(), np.abs(right).max())
    keep = np.abs(left) > NOTHING * scale, np.abs(right) > NOTHING * scale
    ours, left, theirs, right = ours[keep[0]], left[keep[0]], theirs[keep[1]], right[keep[1]]
    joined = np.concatenate([left, right])
    order = np.argsort(joined, kind="stable")
    # Values closer than the tolerance are in one group.
    groups = np.zeros(len(joined), int)
    groups[order[1:]] = np.cumsum(np.diff(joined[order]) > SAME * scale)
    pairs = [], []
    mine, its = groups[: len(left)], groups[len(left) :]
    starts = {
        group: list(np.flatnonzero(mine == group)[::-1]) for group in np.intersect1d(mine, its)
    }
    for at, group in enumerate(its):
        if starts.get(group):
            pairs[0].append(ours[starts[group].pop()])
            pairs[1].append(theirs[at])
    return np.array(pairs[0], int), np.array(pairs[1], int)


def matches_of(
    ours: np.ndarray, theirs: np.ndarray, layers: tuple[Sequence[Layer], Sequence[Layer]]
) -> list[Match]:
    """Return a match for each right layer with some of the elements."""
    source = dict(zip(theirs.tolist(), ours.tolist(), strict=True))
    owner = {}
    for layer in layers[0][::-1]:
        for part in (layer.elements, layer.shift):
            if part is not None:
                owner |= dict.fromkeys(part.ravel().tolist(), layer)
    matches = []
    for layer in layers[1]:
        for part in (layer.elements, layer.shift):
            numbers = [] if part is None else [n for n in part.ravel().tolist() if n in source]
            if not numbers:
                continue
            mine = np.array([source.pop(number) for number in numbers])
            like = owner[int(mine[0])]
            matches.append(
                Match([_of(like, mine)], [_of(layer, np.array(numbers))], is_confirmed=True)
            )
    return matches


def _of(layer: Layer, elements: np.ndarray) -> Layer:
    return replace(layer, role=Role.other, elements=elements, shift=None, shape=())
