"""Matches that a user has fixed, from the elements that are mapped before models are aligned."""

from collections.abc import Sequence

import numpy as np

from pipeline.verify.alignment.layers import Layer
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.match import Match

Layers = list[Layer]


def fixed_matches(
    fixed: Mapping, left: Sequence[Layer], right: Sequence[Layer]
) -> tuple[list[Match], Layers, Layers]:
    """Return the matches of the layers with fixed elements, and the layers of both sides without.

    A match gives those of its elements that are not fixed themselves, such as biases. Layers whose fixed
    elements are arranged in no way that a match can have are left out altogether.
    """
    if not (fixed.source >= 0).any():
        return [], [*left], [*right]
    owners = np.full(fixed.left.size, -1)  # places in `left` of the layers of left elements
    for at, layer in enumerate(left):
        for elements in layer.parts:
            owners[elements[elements >= 0]] = at
    groups: list[tuple[set[int], Layers]] = []
    free = []
    for layer in right:
        sources = np.concatenate([fixed.source[part[part >= 0]].ravel() for part in layer.parts])
        if not (sources >= 0).any():
            free.append(layer)
            continue
        mine, theirs = set(owners[sources[sources >= 0]].tolist()) - {-1}, [layer]
        for group in [group for group in groups if group[0] & mine]:
            groups.remove(group)
            mine, theirs = mine | group[0], group[1] + theirs
        groups.append((mine, theirs))
    used = set().union(*(mine for mine, _ in groups))
    matches = [
        match
        for mine, theirs in groups
        if (match := _match(fixed, [left[at] for at in sorted(mine)], theirs))
    ]
    return matches, [layer for at, layer in enumerate(left) if at not in used], free


def _match(fixed: Mapping, left: Layers, right: Layers) -> Match | None:
    """Return the match of layers whose outputs are the same, in the order that the fixed elements have."""
    outputs = sum(layer.outputs for layer in left)
    if outputs != sum(layer.outputs for layer in right):
        return None
    if len({(layer.role, layer.elements.shape[1:]) for layer in (*left, *right)}) > 1:
        return None
    # Outputs of left elements, numbered over all left layers; the last entry is that of element -1.
    place = np.full(fixed.left.size + 1, -1)
    start = 0
    for layer in left:
        numbers = np.arange(start, start + layer.outputs)
        shape = (-1, *[1] * (layer.elements.ndim - 1))
        place[layer.elements] = numbers.reshape(shape)
        if layer.shift is not None:
            place[layer.shift.ravel()] = numbers
        start += layer.outputs
    place[-1] = -1
    rows = np.concatenate([_rows(fixed, place, layer) for layer in right])
    if sorted(rows.tolist()) != list(range(outputs)):
        return None
    return Match(left, right, None if (np.diff(rows) == 1).all() else rows)


def _rows(fixed: Mapping, place: np.ndarray, layer: Layer) -> np.ndarray:
    """Return the left output that each output of a right layer is; -1: unknown, or several."""
    elements = layer.elements.reshape(layer.outputs, -1)
    if layer.shift is not None:
        elements = np.concatenate([elements, layer.shift.reshape(-1, 1)], axis=1)
    sources = np.where(elements >= 0, fixed.source[elements], -1)
    found = np.where(sources >= 0, place[sources], -1)
    highest = found.max(axis=1)
    return np.where(((found == highest[:, None]) | (found < 0)).all(axis=1), highest, -1)
