"""Match of the weights of two recordings, by their values before the first step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import similarity
from pipeline.verify.recordings.placement import Values, ordered, orders, place
from pipeline.verify.recordings.siblings import Siblings
from pipeline.verify.trace.fingerprints import distance, fingerprint, is_informative
from pipeline.verify.trace.graph import Array

SAME = 1e-9  # of fingerprints of the same values in another order
ALIKE = 1e-3  # of what comes later, which may differ by rounding
MOST_COST = 1e6  # of a pair that does not fit


@dataclass
class Weights:
    """Weights of one side: at the start, and what tells equal ones apart later."""

    start: Arrays
    later: list[Arrays] = field(default_factory=list)  # gradients, weights after a step


@dataclass
class Matching:
    """The map between the elements of both sides, and what is left."""

    mapping: Mapping
    differing: list[tuple[str, str]] = field(
        default_factory=list
    )  # matched by name and shape alone
    copies: dict[str, list[str]] = field(default_factory=lambda: {"left": [], "right": []})
    unmatched: dict[str, list[str]] = field(default_factory=lambda: {"left": [], "right": []})


class Side:
    """Weights of one side with their numbers and fingerprints."""

    def __init__(self, weights: Weights) -> None:
        self.start = dict(weights.start)
        self.names = list(weights.start)
        self.owners = Owners(tuple(Array(n, a.shape, str(a.dtype)) for n, a in self.start.items()))
        self.numbers = {name: self.owners.elements(at) for at, name in enumerate(self.names)}
        self.flat = np.concatenate([array.ravel() for array in self.start.values()])
        self.prints = {name: fingerprint(array) for name, array in self.start.items()}
        self.later = [dict(arrays) for arrays in weights.later]
        self.later_prints = [
            {name: fingerprint(array) for name, array in arrays.items()} for arrays in weights.later
        ]

    def add_slices(self, name: str) -> list[str]:
        """Name the slices of an array along its first axis as if each was an array; return their names."""
        slices = [f"{name}.{at}" for at in range(len(self.start[name]))]
        for arrays in (self.start, self.numbers, *self.later):
            if name in arrays:
                arrays |= dict(zip(slices, arrays[name], strict=True))
        for arrays, prints in zip(
            (self.start, *self.later), (self.prints, *self.later_prints), strict=True
        ):
            prints |= {part: fingerprint(arrays[part]) for part in slices if part in arrays}
        self.names += slices
        return slices

    def is_constant(self, name: str) -> bool:
        """True if all values are the same."""
        return not is_informative(self.prints[name])


class Matcher:
    """Matches arrays: whole ones, parts of fused ones, constant ones, and at last those that differ."""

    def __init__(self, left: Weights, right: Weights) -> None:
        self.left, self.right = Side(left), Side(right)
        self.mapping = Mapping(self.left.owners.arrays, self.right.owners.arrays)
        # How many matrices of a number of axes are laid out by each order of axes, and other orders that
        # were found along an axis of a length.
        self.customs: dict[tuple[int, ...], int] = {}
        self.tables: dict[int, list[np.ndarray]] = {}
        self.matching = Matching(self.mapping)

    def match(self) -> Matching:
        """Return what belongs together."""
        self._assign(self._whole, self._find_layout)
        self._place_parts()
        Siblings(self.left, self.right, self.mapping).match()
        slices = self._slice_stacks()
        self._assign(self._constant, self._likely_layout)
        for side, names in zip((self.left, self.right), slices, strict=True):
            side.names = [name for name in side.names if name not in names]
        self._set_copies_aside()
        self.matching.differing = self._assign(self._fitting, self._likely_layout)
        left, right = self._free()
        self.matching.unmatched = {"left": left, "right": right}
        return self.matching

    def _free(self) -> tuple[list[str], list[str]]:
        """Names of the arrays with an element that has no counterpart."""
        used = self.mapping.is_used, self.mapping.source >= 0
        free = [
            [n for n in side.names if not known[side.numbers[n]].all() and n not in copies]
            for side, known, copies in zip(
                (self.left, self.right), used, self.matching.copies.values(), strict=True
            )
        ]
        return free[0], free[1]

    def _assign(
        self,
        fits: Callable[[str, str], bool],
        layout: Callable[[str, str], np.ndarray | None],
    ) -> list[tuple[str, str]]:
        """Match free whole arrays that fit, the most similar ones first; return their names."""
        left, right = self._free()
        cost = np.full((len(left), len(right)), MOST_COST)
        for i, ours in enumerate(left):
            for j, theirs in enumerate(right):
                if self.left.start[ours].size == self.right.start[theirs].size and fits(
                    ours, theirs
                ):
                    place_ = abs(i / len(left) - j / len(right))
                    cost[i, j] = self._cost(ours, theirs) + 1e-3 * place_
        found = []
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < MOST_COST and (numbers := layout(left[i], right[j])) is not None:
                self.mapping.add(numbers.ravel(), self.right.numbers[right[j]].ravel())
                found.append((left[i], right[j]))
        return found

    def _cost(self, left: str, right: str) -> float:
        """Cost of a match: what comes later counts more than names, if it agrees at all."""
        cost = 1 - similarity(left, right)
        for ours, theirs in zip(self.left.later_prints, self.right.later_prints, strict=True):
            if left in ours and right in theirs:
                cost += 2.0 * (distance(ours[left], theirs[right]) > ALIKE)
            else:
                cost += 2.0 * (left in ours or right in theirs)
        return cost

    def _whole(self, left: str, right: str) -> bool:
        is_constant = self.left.is_constant(left) or self.right.is_constant(right)
        return (
            not is_constant and distance(self.left.prints[left], self.right.prints[right]) <= SAME
        )

    def _constant(self, left: str, right: str) -> bool:
        are_constant = self.left.is_constant(left) and self.right.is_constant(right)
        return are_constant and distance(self.left.prints[left], self.right.prints[right]) <= SAME

    def _fitting(self, left: str, right: str) -> bool:
        return (
            next(orders(self.left.start[left].shape, self.right.start[right].shape), None)
            is not None
        )

    def _find_layout(self, left: str, right: str) -> np.ndarray | None:
        """Return the left numbers in the layout of a right array with the same values."""
        ours, theirs = self.left.start[left], self.right.start[right]
        for order in orders(ours.shape, theirs.shape):
            if np.array_equal(ordered(ours, order, theirs.shape), theirs):
                self.customs[order] = self.customs.get(order, 0) + 1
                return ordered(self.left.numbers[left], order, theirs.shape)
        numbers = self.left.numbers[left].ravel()
        found = place(theirs, Values(ours.ravel(), numbers), self.left.flat)
        if found is not None:
            self._note_tables(found - numbers[0], ours.shape)
        return found

    def _note_tables(self, places: np.ndarray, shape: tuple[int, ...]) -> None:
        """Note the orders along the axes of an array, such as of features flattened otherwise."""
        for along in np.unravel_index(places, shape):
            for axis in range(places.ndim):
                lines = np.moveaxis(along, axis, 0).reshape(places.shape[axis], -1)
                table = lines[:, 0]
                is_order = (lines == table[:, None]).all() and len(np.unique(table)) == len(table)
                if is_order and table.max() == len(table) - 1 and (np.diff(table) != 1).any():
                    self.tables.setdefault(len(table), []).append(table)

    def _likely_layout(self, left: str, right: str) -> np.ndarray | None:
        """Return the left numbers in the likeliest layout of a right array, as what comes later has it."""
        shape = self.right.start[right].shape
        fitting = list(orders(self.left.start[left].shape, shape))
        if not fitting:
            return self.left.numbers[left].reshape(shape)
        order = max(fitting, key=lambda order: self.customs.get(order, 0))
        numbers = self.left.numbers[left]
        candidates = [ordered(numbers, one, shape) for one in (order, *fitting)]
        if numbers.size == max(numbers.shape):
            tables = self.tables.get(numbers.size, ())
            candidates += [numbers.ravel()[table].reshape(shape) for table in tables]
        return next(self._agreeing(left, right, candidates), candidates[0])

    def _agreeing(
        self, left: str, right: str, candidates: Sequence[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Yield the layouts in which what comes later agrees."""
        first = self.left.numbers[left].flat[0]
        for ours, theirs in zip(self.left.later, self.right.later, strict=True):
            if left not in ours or right not in theirs or not np.ptp(theirs[right]):
                continue
            scale = ALIKE * np.abs(theirs[right]).max()
            for numbers in candidates:
                if np.abs(ours[left].ravel()[numbers - first] - theirs[right]).max() <= scale:
                    yield numbers

    def _place_parts(self) -> None:
        """Find arrays of one side within those of the other: fused or separate, stacked or not."""
        for is_right in (True, False):
            side, other = (self.right, self.left) if is_right else (self.left, self.right)
            left, right = self._free()
            mine, theirs = (right, left) if is_right else (left, right)
            parts = [name for name in mine if not side.is_constant(name)]
            wholes = [name for name in theirs if not other.is_constant(name)]
            if not parts or not wholes:
                return
            numbers = np.concatenate([other.numbers[name].ravel() for name in wholes])
            values = Values(other.flat[numbers], numbers)
            for name in parts:
                found = place(side.start[name], values, other.flat)
                if found is not None:
                    mine = side.numbers[name].ravel()
                    pair = (found.ravel(), mine) if is_right else (mine, found.ravel())
                    self.mapping.add(*pair)

    def _slice_stacks(self) -> tuple[set[str], set[str]]:
        """Slice constant arrays that may be those of several layers, stacked; return the slices' names."""
        found: tuple[set[str], set[str]] = set(), set()
        free = self._free()
        for at, side in enumerate((self.left, self.right)):
            other = (self.right, self.left)[at]
            sizes = [other.start[name].size for name in free[1 - at] if other.is_constant(name)]
            for name in free[at]:
                array = side.start[name]
                is_whole = array.ndim < 2 or array.size in sizes or not side.is_constant(name)
                if not is_whole and sizes.count(array[0].size) >= len(array):
                    found[at].update(side.add_slices(name))
        return found

    def _set_copies_aside(self) -> None:
        """Set aside arrays that are one of the same side by another name: tied weights."""
        for which, (side, free) in enumerate(
            zip((self.left, self.right), self._free(), strict=True)
        ):
            known = [name for name in side.names if name not in free]
            for name in free:
                if not side.is_constant(name) and any(_are_tied(side, name, n) for n in known):
                    self.matching.copies[("left", "right")[which]].append(name)


def _are_tied(side: Side, name: str, other: str) -> bool:
    """True if two arrays of a side have the same values at all times."""
    if not np.array_equal(side.start[name], side.start[other]):
        return False
    pairs = [(arrays[name], arrays[other]) for arrays in side.later if {name, other} <= set(arrays)]
    return all(np.array_equal(*pair) for pair in pairs)
