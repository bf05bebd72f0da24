"""Statistics of repeated measurements: medians with their intervals, ratios, and growth with the batch.

The interval of a median is that of the sign test (order statistics): it assumes no distribution, so that a
few rounds that something disturbed do not widen it. The median is the geometric mean of the middle two
values, so that the ratio of two backends is exactly the inverse of the ratio the other way round.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.formatting import counted

LEVEL = 0.95  # of an interval
FEWEST = 6  # values of which the smallest and the largest are an interval of that level


@dataclass(frozen=True)
class Interval:
    """Median of positive values with its 95 % interval, which is NaN for fewer values than `FEWEST`."""

    median: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half the width of the interval; infinity if it is not known."""
        half = (self.high - self.low) / 2
        return math.inf if math.isnan(half) else half

    @property
    def excludes_one(self) -> bool:
        """True if the interval is known and 1 is outside of it."""
        return self.low > 1 or self.high < 1

    @property
    def inverse(self) -> "Interval":
        """The interval of the inverse values."""
        return Interval(1 / self.median, 1 / self.high, 1 / self.low, self.count)

    @property
    def in_words(self) -> str:
        """The median, and in brackets the interval, if it is known, and the number of values."""
        median, low, high = (
            f"{end:#.3g}".rstrip(".") for end in (self.median, self.low, self.high)
        )
        ends = "" if math.isnan(self.low) else f"{low} … {high}, "
        return f"{median} ({ends}{counted(self.count, 'round')})"


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median of positive values with its interval."""
    ordered, count = sorted(values), len(values)
    below, above = ordered[(count - 1) // 2], ordered[count // 2]
    median = below if below == above else math.sqrt(below * above)
    if not (place := lowest_place(count)):
        return Interval(median, math.nan, math.nan, count)
    return Interval(median, ordered[place - 1], ordered[count - place], count)


def lowest_place(count: int) -> int:
    """Return the place, from 1, of the order statistic that begins an interval; 0 if there is none.

    The median of the distribution is below it with a probability of at most (1 - LEVEL) / 2.
    """
    place, tail = 0, 0.0
    while place < count:
        tail += math.comb(count, place) / 2**count
        if tail > (1 - LEVEL) / 2:
            break
        place += 1
    return place


def ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return how many times as large the second values are, each divided by that of the same round."""
    return median_interval([b / a for a, b in zip(first, second, strict=True)])


@dataclass(frozen=True)
class Growth:
    """A quantity that grows with the batch: `fixed + each · batch`."""

    fixed: float
    each: float

    def at(self, batch: int) -> float:
        """Return the quantity at a batch size."""
        return self.fixed + self.each * batch


def growth(batches: Sequence[int], values: Sequence[float]) -> Growth:
    """Fit a line through positive values, so that the squares of the relative errors are least.

    Neither of its numbers is negative.
    """
    rows = [(1 / value, batch / value) for batch, value in zip(batches, values, strict=True)]
    aa, bb = sum(a * a for a, _ in rows), sum(b * b for _, b in rows)
    ab, a1, b1 = sum(a * b for a, b in rows), sum(a for a, _ in rows), sum(b for _, b in rows)
    determinant = aa * bb - ab * ab
    if determinant > 1e-12 * aa * bb:
        fixed, each = (a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant
        if fixed >= 0 and each >= 0:
            return Growth(fixed, each)
    # On the edge: the better of a constant and a line through zero.
    edges = Growth(a1 / aa, 0.0), Growth(0.0, b1 / bb)

    def error(line: Growth) -> float:
        return sum((line.fixed * a + line.each * b - 1) ** 2 for a, b in rows)

    return min(edges, key=error)
