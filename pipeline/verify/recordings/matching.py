"""Match of the weights of two recordings, by their values before the first step."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import similarity
from pipeline.verify.recordings.placement import Values, ordered, orders, place
from pipeline.verify.recordings.vectors import Vectors
from pipeline.verify.recordings.weights import ALIKE, Weights, agree_later
from pipeline.verify.trace.fingerprints import distance

SAME = 1e-9  # of fingerprints of the same values in another order
MOST_COST = 1e6  # of a pair that does not fit


@dataclass
class Matching:
    """The map between the elements of both sides, and what is left."""

    mapping: Mapping
    copies: dict[str, list[str]] = field(default_factory=lambda: {"left": [], "right": []})
    unmatched: dict[str, list[str]] = field(default_factory=lambda: {"left": [], "right": []})


class Matcher:
    """Matches arrays: whole ones, parts of fused ones, constant ones, and at last those that differ."""

    def __init__(self, left: Weights, right: Weights) -> None:
        self.left, self.right = left, right
        self.mapping = Mapping(left.owners.arrays, right.owners.arrays)
        self.customs: dict[tuple[int, ...], int] = {}  # matrices that each order of axes lays out
        self.matching = Matching(self.mapping)

    def match(self) -> Matching:
        """Return what belongs together."""
        self._assign(lambda *names: self._are_equal(*names) and not self._is_constant(*names))
        self._place_parts()
        Vectors(self.left, self.right, self.mapping).match()
        self._assign(self._are_equal)
        self._set_copies_aside()
        self._assign(lambda ours, theirs: bool(self._orders(ours, theirs)))
        self.matching.unmatched |= zip(("left", "right"), self._free(), strict=True)
        return self.matching

    def _free(self) -> tuple[list[str], list[str]]:
        """Names of the arrays with an element that has no counterpart."""
        known = self.mapping.is_used, self.mapping.source >= 0
        left, right = (
            [n for n, at in side.numbers.items() if not mask[at].all() and n not in copies]
            for side, mask, copies in zip(
                (self.left, self.right), known, self.matching.copies.values(), strict=True
            )
        )
        return left, right

    def _assign(self, fits: Callable[[str, str], bool]) -> None:
        """Match free whole arrays that fit, the most similar ones first."""
        left, right = self._free()
        cost = np.full((len(left), len(right)), MOST_COST)
        for i, ours in enumerate(left):
            for j, theirs in enumerate(right):
                if self.left.start[ours].size == self.right.start[theirs].size and fits(
                    ours, theirs
                ):
                    distance_ = abs(i / len(left) - j / len(right))
                    cost[i, j] = self._cost(ours, theirs) + 1e-3 * distance_
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < MOST_COST and (numbers := self._layout(left[i], right[j])) is not None:
                self.mapping.add(numbers.ravel(), self.right.numbers[right[j]].ravel())

    def _cost(self, left: str, right: str) -> float:
        """Cost of a match: what comes later counts more than names, if it agrees at all."""
        cost = 1 - similarity(left, right)
        for ours, theirs in zip(self.left.later_prints, self.right.later_prints, strict=True):
            if left in ours and right in theirs:
                cost += 2.0 * (distance(ours[left], theirs[right]) > ALIKE)
            else:
                cost += 2.0 * (left in ours or right in theirs)
        return cost

    def _are_equal(self, left: str, right: str) -> bool:
        return distance(self.left.prints[left], self.right.prints[right]) <= SAME

    def _is_constant(self, left: str, right: str) -> bool:
        return self.left.is_constant(left) or self.right.is_constant(right)

    def _orders(self, left: str, right: str) -> list[tuple[int, ...]]:
        """Orders of the left axes that give the right shape, those of other matrices first."""
        found = orders(self.left.start[left].shape, self.right.start[right].shape)
        return sorted(found, key=lambda order: -self.customs.get(order, 0))

    def _layout(self, left: str, right: str) -> np.ndarray | None:
        """Return the left numbers in the layout of a right array: by its values, else by what comes later."""
        ours, theirs = self.left.start[left], self.right.start[right]
        numbers = self.left.numbers[left]
        laid_out = {o: ordered(numbers, o, theirs.shape) for o in self._orders(left, right)}
        if not self._is_constant(left, right) and self._are_equal(left, right):
            for order, found in laid_out.items():
                if np.array_equal(self.left.flat[found], theirs):
                    self.customs[order] = self.customs.get(order, 0) + 1
                    return found
            return place(theirs, Values(ours.ravel(), numbers.ravel()), self.left.flat)
        choices = [*laid_out.values()] or [numbers.reshape(theirs.shape)]
        agreeing = (
            one
            for one in choices
            if agree_later(self.left, self.right, one, self.right.numbers[right])
        )
        return next(agreeing, choices[0])

    def _place_parts(self) -> None:
        """Find arrays of one side within those of the other: fused or separate, stacked or not."""
        for is_right in (True, False):
            side, other = (self.right, self.left) if is_right else (self.left, self.right)
            free = self._free()
            parts = [name for name in free[int(is_right)] if not side.is_constant(name)]
            wholes = [name for name in free[1 - int(is_right)] if not other.is_constant(name)]
            if not parts or not wholes:
                return
            numbers = np.concatenate([other.numbers[name].ravel() for name in wholes])
            values = Values(other.flat[numbers], numbers)
            for name in parts:
                found = place(side.start[name], values, other.flat)
                if found is not None:
                    mine = side.numbers[name].ravel()
                    self.mapping.add(
                        *((found.ravel(), mine) if is_right else (mine, found.ravel()))
                    )

    def _set_copies_aside(self) -> None:
        """Set aside arrays that are one of the same side by another name: tied weights."""
        for side, free, copies in zip(
            (self.left, self.right), self._free(), self.matching.copies.values(), strict=True
        ):
            known = [name for name in side.names if name not in free]
            copies += [
                name
                for name in free
                if not side.is_constant(name) and any(side.are_tied(name, one) for one in known)
            ]
