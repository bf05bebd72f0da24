"""Matches of the layers of two models, from their order, kinds, shapes and names."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.verify.alignment.layers import MATRICES, Layer
from pipeline.verify.alignment.names import similarity, words
from pipeline.verify.trace.graph import Role

# Words that order the parts of a fused projection.
PARTS = ("q", "k", "v")


@dataclass
class Fan:
    """Layers of one kind that are applied to the same data: query, key and value; two branches."""

    layers: list[Layer]
    tells_buffers: bool = True  # False: a buffer of one side may be a parameter of the other

    @property
    def key(self) -> tuple[object, ...]:
        """Kind and sizes that a fan of the other side must share."""
        first = self.layers[0]
        kind = first.is_trained or first.role in MATRICES or not self.tells_buffers
        return (*first.signature, kind, sum(layer.outputs for layer in self.layers))

    @cached_property
    def name(self) -> str:
        """Names of the layers, for their similarity."""
        return ".".join(name for layer in self.layers for name in layer.arrays)


@dataclass
class Match:
    """Layers of the two sides with the same parameters, each side's stacked along their outputs.

    `rows` and `columns` say which output and which input of the left side each of the right side is;
    None: the same order. A match of layers without inputs has no columns.
    """

    left: list[Layer]
    right: list[Layer]
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    is_confirmed: bool = False  # True if its data and result were found to agree

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of elements that belong together, left and right; -1: there is none."""
        left, right = _stacked(self.left), _stacked(self.right)
        if self.rows is not None:
            left = left[self.rows]
        if self.columns is not None:
            if left.ndim > 1 and len(self.columns) != left.shape[1]:
                left = left.reshape(len(left), -1)
            left = left[:, self.columns] if left.ndim > 1 else left[self.columns]
        ours, theirs = [left.ravel()], [right.ravel()]
        shifts = _shifts(self.left), _shifts(self.right)
        if any((shift >= 0).any() for shift in shifts):
            order = self.rows
            if order is None and left.ndim == 1:
                order = self.columns
            ours.append(shifts[0] if order is None else shifts[0][order])
            theirs.append(shifts[1])
        return np.concatenate(ours), np.concatenate(theirs)


def _stacked(layers: Sequence[Layer]) -> np.ndarray:
    parts = [layer.elements for layer in layers]
    if len({part.shape[1:] for part in parts}) > 1:  # kernels, and matrices of patches
        parts = [part.reshape(len(part), -1) for part in parts]
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _shifts(layers: Sequence[Layer]) -> np.ndarray:
    """Numbers of the summands' elements `[out]`; -1 where a layer has none."""
    return np.concatenate(
        [
            np.full(layer.outputs, -1) if layer.shift is None else layer.shift.ravel()
            for layer in layers
        ]
    )


@dataclass
class Matching:
    """Matches in the order of the right side's execution, and what is left."""

    matches: list[Match] = field(default_factory=list)
    left: list[Layer] = field(default_factory=list)  # without a counterpart
    right: list[Layer] = field(default_factory=list)


def match_layers(left: Sequence[Layer], right: Sequence[Layer]) -> Matching:
    """Match the layers of two models."""
    ours, theirs = list(make_fans(left)), list(make_fans(right))
    pairs = _fans_in_order(ours, theirs)
    free_left = [fan for at, fan in enumerate(ours) if at not in {i for i, _ in pairs}]
    free_right = [fan for at, fan in enumerate(theirs) if at not in {j for _, j in pairs}]
    found = [(ours[i], theirs[j]) for i, j in pairs]
    found += _out_of_order(free_left, free_right)
    matching = Matching()
    for fan, other in found:
        matching.matches += match_fan(fan.layers, other.layers)
    # What fans do not explain: single layers, wherever they are; buffers for parameters at last.
    for tells_buffers in (True, False):
        used = {id(layer) for match in matching.matches for layer in (*match.left, *match.right)}
        singles_left = [Fan([layer], tells_buffers) for layer in left if id(layer) not in used]
        singles_right = [Fan([layer], tells_buffers) for layer in right if id(layer) not in used]
        for i, j in _fans_in_order(singles_left, singles_right):
            matching.matches += match_fan(singles_left[i].layers, singles_right[j].layers)
    used = {id(layer) for match in matching.matches for layer in (*match.left, *match.right)}
    matching.left = [layer for layer in left if id(layer) not in used]
    matching.right = [layer for layer in right if id(layer) not in used]
    matching.matches.sort(key=lambda match: match.right[0].op)
    return matching


def make_fans(layers: Iterable[Layer]) -> Iterable[Fan]:
    """Group matrices that are applied to the same data, in the order of the first of each."""
    fans: dict[tuple[object, ...], Fan] = {}
    for number, layer in enumerate(layers):
        is_matrix = layer.role in (Role.dot, Role.conv) and layer.root is not None
        key = (*layer.signature, layer.root) if is_matrix else (number,)
        fans.setdefault(key, Fan([])).layers.append(layer)
    return fans.values()


def _fans_in_order(left: Sequence[Fan], right: Sequence[Fan]) -> list[tuple[int, int]]:
    def gain(i: int, j: int) -> tuple[float, float]:
        is_matrix = left[i].layers[0].role in MATRICES
        shapes = left[i].layers[0].elements.shape[1:], right[j].layers[0].elements.shape[1:]
        alike = (len(left[i].layers) == len(right[j].layers)) + (shapes[0] == shapes[1])
        return (4.0 if is_matrix else 1.0, 0.1 * alike)

    return in_order(
        ([fan.key for fan in left], [fan.key for fan in right]),
        ([fan.name for fan in left], [fan.name for fan in right]),
        gain,
    )


def in_order(
    keys: tuple[Sequence[object], Sequence[object]],
    names: tuple[Sequence[str], Sequence[str]],
    gain: Callable[[int, int], tuple[float, float]] = lambda *_: (1.0, 0.0),
) -> list[tuple[int, int]]:
    """Match as much as possible without changing the order (Needleman & Wunsch 1970).

    Only what has the same key is matched; similar names are preferred. `gain` is the value of a pair, and
    what is added to it.
    """
    left, right = keys
    score = np.zeros((len(left) + 1, len(right) + 1))
    gains = np.full((len(left), len(right)), -np.inf)
    for i, key in enumerate(left):
        for j, other in enumerate(right):
            if key == other:
                weight, more = gain(i, j)
                gains[i, j] = weight * (1 + similarity(names[0][i], names[1][j])) + more
    for i in range(len(left)):
        for j in range(len(right)):
            score[i + 1, j + 1] = max(score[i, j + 1], score[i + 1, j], score[i, j] + gains[i, j])
    pairs, i, j = [], len(left), len(right)
    while i and j:
        if score[i, j] == score[i - 1, j - 1] + gains[i - 1, j - 1]:
            pairs.append((i - 1, j - 1))
            i, j = i - 1, j - 1
        elif score[i, j] == score[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _out_of_order(left: Sequence[Fan], right: Sequence[Fan]) -> list[tuple[Fan, Fan]]:
    """Match the rest by kind, shape and names, in whatever order."""
    pairs = []
    for key in dict.fromkeys(fan.key for fan in left):
        ours = [fan for fan in left if fan.key == key]
        theirs = [fan for fan in right if fan.key == key]
        names = [fan.name for fan in ours], [fan.name for fan in theirs]
        pairs += [(ours[i], theirs[j]) for i, j in best(*names)]
    return pairs


def best(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """Assign names to the most similar ones; equally similar ones in order."""
    if not left or not right:
        return []
    gain = np.array([[similarity(a, b) for b in right] for a in left])
    order = np.abs(
        np.arange(len(left))[:, None] / len(left) - np.arange(len(right))[None] / len(right)
    )
    rows, columns = linear_sum_assignment(gain - 1e-3 * order, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def match_fan(left: Sequence[Layer], right: Sequence[Layer]) -> list[Match]:
    """Match the layers of two fans: one to one where as many are as large, the others stacked."""
    matches, rest = [], ([], [])
    for size in dict.fromkeys(layer.outputs for layer in (*right, *left)):
        ours = [layer for layer in left if layer.outputs == size]
        theirs = [layer for layer in right if layer.outputs == size]
        if len(ours) == len(theirs):
            pairs = best([_names(layer) for layer in ours], [_names(layer) for layer in theirs])
            matches += [Match([ours[i]], [theirs[j]]) for i, j in pairs]
        else:
            rest[0].extend(ours)
            rest[1].extend(theirs)
    if rest[0]:
        ours, theirs = (_by_parts(sorted(side, key=lambda layer: layer.op)) for side in rest)
        matches.append(Match(ours, theirs))
    return matches


def _names(layer: Layer) -> str:
    return ".".join(layer.arrays)


def _by_parts(layers: Sequence[Layer]) -> list[Layer]:
    """Sort query, key and value, if their names say so."""
    parts = [next((w for w in reversed(words(layer.name)) if w in PARTS), "") for layer in layers]
    if sorted(parts) == sorted(PARTS[: len(parts)]):
        return [layers[parts.index(part)] for part in PARTS[: len(parts)]]
    return list(layers)
