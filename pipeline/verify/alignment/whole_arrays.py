"""Matches of whole arrays that the two sides use in different ways.

A table of positions is looked up on one side and sliced on the other; a class token is joined on one and
added on the other; a table is multiplied with one-hot vectors; a factor is part of weight norm.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from pipeline.verify.alignment.layers import Layer, Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.match import Match, Matching, in_order
from pipeline.verify.trace.graph import Array, Role


def match_whole_arrays(
    matching: Matching,
    mapping: Mapping,
    layers: tuple[Sequence[Layer], Sequence[Layer]],
    vectors: bool = True,
) -> bool:
    """Match the arrays that are left by their shapes, up to the order of axes.

    `layers` are all of both sides. Without `vectors`, none of them are matched. Return True for a match.
    """
    ours = _whole(layers[0], mapping.left, mapping.is_used)
    theirs = _whole(layers[1], mapping.right, mapping.source >= 0)
    if not vectors:
        ours, theirs = ([one for one in side if one.elements.ndim > 1] for side in (ours, theirs))
    names = [layer.arrays[0] for layer in ours], [layer.arrays[0] for layer in theirs]
    keys = [_key(layer) for layer in ours], [_key(layer) for layer in theirs]
    matched = [(ours[i], theirs[j]) for i, j in in_order(keys, names)]
    found = [
        set(side) for side in zip(*((a.arrays[0], b.arrays[0]) for a, b in matched), strict=True)
    ]
    matching.matches += [_match(*pair) for pair in matched]
    for left, names in zip((matching.left, matching.right), found, strict=False):
        left[:] = [layer for layer in left if not set(layer.arrays) <= names]
    return bool(matched)


def alone(owners: Owners, others: Owners, free: np.ndarray, other_free: np.ndarray) -> np.ndarray:
    """Return True for the elements of each free buffer that no free array of the other side can be.

    Such as a table of sines, which the other side computes. One buffer may hold several of the other side.
    """
    found = np.zeros(owners.size, bool)
    left_over = [
        (array, _sizes(array))
        for at, array in enumerate(others.arrays)
        if other_free[others.starts[at] : others.ends[at]].any()
    ]
    for at, array in enumerate(owners.arrays):
        mine, numbers = _sizes(array), slice(owners.starts[at], owners.ends[at])
        if not array.is_trained and free[numbers].all():
            found[numbers] = not any(
                mine == its or (not other.is_trained and (mine <= its or its <= mine))
                for other, its in left_over
            )
    return found


def _sizes(array: Array) -> Counter[int]:
    return Counter(size for size in array.shape if size != 1)


def axis_orders(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the orders of the left axes that give the right shape, that of no change first."""
    return [
        order
        for order in permutations(range(len(left)))
        if tuple(left[axis] for axis in order) == tuple(right)
    ]


def _whole(layers: Sequence[Layer], owners: Owners, used: np.ndarray) -> list[Layer]:
    """Return a layer for each array of which no element is used, in its own shape."""
    indices = {array.name: index for index, array in enumerate(owners.arrays)}
    found: dict[str, Layer] = {}
    for layer in layers:
        for name in layer.arrays:
            elements = owners.elements(indices[name])
            if not used[elements].any():
                elements = np.atleast_1d(np.squeeze(elements))
                whole = replace(
                    layer, role=Role.other, elements=elements, shift=None, arrays=(name,),
                    shape=elements.shape,
                )  # fmt: skip
                found.setdefault(name, whole)
    return list(found.values())


def _key(layer: Layer) -> tuple[int, ...]:
    return tuple(sorted(layer.elements.shape))


def _match(left: Layer, right: Layer) -> Match:
    order = axis_orders(left.elements.shape, right.elements.shape)[0]
    turned = np.transpose(left.elements, order).ravel()
    return Match(
        [replace(left, elements=turned)], [replace(right, elements=right.elements.ravel())]
    )
