"""Other alignments that structure and names leave open."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from pipeline.verify.alignment.layers import Layer
from pipeline.verify.alignment.match import Match
from pipeline.verify.alignment.names import pattern
from pipeline.verify.alignment.permutations import row_orders
from pipeline.verify.alignment.whole_arrays import axis_orders

MOST_SIBLINGS = 4  # layers on the same data all orders of which are tried


@dataclass(frozen=True)
class Setting:
    """Values of an attribute of some matches."""

    matches: Sequence[Match]
    name: str
    values: Sequence[object]

    def apply(self) -> "Setting":
        """Set them; return the values from before."""
        before = Setting(self.matches, self.name, [getattr(m, self.name) for m in self.matches])
        for match, value in zip(self.matches, self.values, strict=True):
            setattr(match, self.name, value)
        return before


class Alternatives:
    """Settings of the matches that are open, to be tried one by one."""

    def __init__(self, matches: Sequence[Match], open_matches: Sequence[Match]) -> None:
        self.matches, self.open = matches, open_matches

    def __iter__(self) -> Iterator[Setting]:
        """Yield orders of fused projections, of layers on the same data, and of the axes of vectors."""
        yield from self._rows()
        yield from self._siblings()
        yield from self._axes()

    def _rows(self) -> Iterator[Setting]:
        for match in self.open:
            if len(match.left) > 1 or len(match.right) > 1:
                more = match.right if len(match.right) > len(match.left) else match.left
                others = alike(self.matches, match)
                for rows in row_orders([layer.outputs for layer in more]):
                    order = rows if more is match.right else np.argsort(rows)
                    yield Setting(others, "rows", [order] * len(others))

    def _siblings(self) -> Iterator[Setting]:
        seen: set[int] = set()
        for match in self.open:
            fan = [other for other in self.open if _is_sibling(match, other)]
            if not 1 < len(fan) <= MOST_SIBLINGS or id(fan[0]) in seen:
                continue
            seen |= {id(other) for other in fan}
            blocks = self._blocks(fan)
            for order in list(permutations(range(len(fan))))[1:]:
                yield Setting(
                    [match for block in blocks for match in block],
                    "left",
                    [block[at].left for block in blocks for at in order],
                )

    def _blocks(self, fan: list[Match]) -> list[list[Match]]:
        """Return a fan and those of the same layers in other blocks."""
        columns = [alike(self.matches, match) for match in fan]
        if len({len(column) for column in columns}) > 1:
            return [fan]
        blocks = [list(block) for block in zip(*columns, strict=True)]
        return [block for block in blocks if all(_is_sibling(block[0], m) for m in block)]

    def _axes(self) -> Iterator[Setting]:
        for match in self.open:
            left, right = match.left[0], match.right[0]
            if left.elements.ndim > 1 or match.columns is not None or len(left.shape) < 2:
                continue
            numbers = np.arange(left.elements.size).reshape(left.shape)
            for order in axis_orders(left.shape, right.shape):
                columns = np.transpose(numbers, order).ravel()
                if (columns != numbers.ravel()).any():
                    yield Setting([match], "columns", [columns])


def alike(matches: Sequence[Match], match: Match) -> list[Match]:
    """Return a match and those of the same layer in other blocks, that are not confirmed."""
    keys = [_pattern(other) for other in matches]
    at = next(at for at, other in enumerate(matches) if other is match)
    key = keys[at : at + 3]
    return [match] + [
        other
        for place, other in enumerate(matches)
        if other is not match and not other.is_confirmed and keys[place : place + 3] == key
    ]


def _pattern(match: Match) -> tuple[object, ...]:
    layers: list[Layer] = [*match.left, *match.right]
    return tuple((tuple(map(pattern, layer.arrays)), layer.elements.shape) for layer in layers)


def _is_sibling(match: Match, other: Match) -> bool:
    """True for two matches of layers of one shape that are applied to the same data."""
    if len(match.left) > 1 or len(match.right) > 1 or len(other.left) > 1 or len(other.right) > 1:
        return False
    one, two = match.right[0], other.right[0]
    return (
        one.root == two.root and one.elements.shape == two.elements.shape and one.root is not None
    )
