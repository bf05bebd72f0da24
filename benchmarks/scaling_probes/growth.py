"""Growth of a cost: its exponent, beyond a constant, and a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

FLAT = 1.3  # the largest value relative to the first, up to which nothing grows that can be told from noise
LINEAR = 1.2  # largest exponent that counts as linear
CLIFF = 1.6  # a value relative to the fit, in units of that before
STEPS = 100  # exponents that are tried from one number to the next
HIGHEST = 3


@dataclass(frozen=True)
class Growth:
    """A cost is `constant + factor · size^exponent`."""

    exponent: float
    constant: float
    factor: float
    has_cliff: bool = False

    def at(self, size: float) -> float:
        """Return the cost of a size."""
        return self.constant + self.factor * size**self.exponent

    @property
    def verdict(self) -> str:
        """Verdict in a few words."""
        if self.has_cliff:
            return "a cliff"
        if self.exponent == 0:
            return "does not grow"
        return "linear or better" if self.exponent <= LINEAR else "worse than linear"


def growth(sizes: Sequence[float], values: Sequence[float]) -> Growth:
    """Fit `constant + factor · size^exponent`, by the smallest squares of relative errors."""
    points = list(zip(sizes, values, strict=True))
    if max(values) <= FLAT * values[0]:
        return Growth(0.0, sum(values) / len(values), 0.0)
    tried = (fitted(points, step / STEPS) for step in range(1, HIGHEST * STEPS + 1))
    found = Growth(*min(tried)[1:])
    off = [value / found.at(size) for size, value in points]
    return replace(found, has_cliff=any(after > CLIFF * before for before, after in pairwise(off)))


def fitted(
    points: Sequence[tuple[float, float]], exponent: float
) -> tuple[float, float, float, float]:
    """Return the error, the exponent, and the best constant and factor, neither below 0, for it."""
    rows = [(1 / value, size**exponent / value) for size, value in points]
    aa, ab, bb = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = (sum(row[i] for row in rows) for i in (0, 1))
    pairs = [(a / aa, 0.0), (0.0, b / bb)]
    if (determinant := aa * bb - ab * ab) > 0:
        pairs.append(((a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant))
    errors = [
        (sum((c * row[0] + f * row[1] - 1) ** 2 for row in rows), exponent, c, f)
        for c, f in pairs
        if c >= 0 and f >= 0
    ]
    return min(errors)
