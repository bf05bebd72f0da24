"""Statistics of runs over several seeds or folds.

Intervals are Student's (1908) at 95 %. Backends are compared over the same seeds by the paired t-test.
Folds share training samples, so that their spread is too small: their intervals are widened as by Nadeau
and Bengio ("Inference for the generalization error", 2003). P-values are corrected by Holm (1979), since
some of many tests look significant by chance. The distribution comes from scipy.special: scipy.stats takes
a second to import.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.formatting import format_number

LEVEL = 0.95  # of an interval
ROUNDING = 1e-9  # relative; below it two runs in float64 are the same
ROUNDING_32 = 2**-20  # … in float32 or bfloat16: eight units in the last place of a float32


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its 95 % interval, which is NaN for one seed."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def words(self) -> str:
        """Mean with both ends of the interval, as text."""
        ends = f" [{format_number(self.low)}, {format_number(self.high)}]"
        return format_number(self.mean) + (ends if self.count > 1 else "")

    @property
    def short(self) -> str:
        """Mean with half the width of the interval, as text."""
        half = f" ± {(self.high - self.low) / 2:.2g}"
        return format_number(self.mean) + (half if self.count > 1 else "")


@dataclass(frozen=True)
class Effect:
    """Difference of a quantity between two backends over the same seeds."""

    setting: str  # of the runs; empty if there is only one
    key: str
    backends: tuple[str, str]
    estimate: Estimate  # second − first; if `ratio`, second / first
    p: float  # p-value of the paired test, corrected for the number of tests; NaN for one seed
    ratio: bool = False  # true for speeds and times
    same: bool = False  # all seeds give the same value up to rounding
    maximized: bool = False  # more is better
    repeats: str = "seeds"  # the word for the runs of a backend

    @property
    def shown(self) -> bool:
        """True if the difference is significant."""
        return not self.same and self.p < 1 - LEVEL

    @property
    def words(self) -> str:
        """The result of the test as one sentence."""
        first, second = self.backends
        one = self.repeats.removesuffix("s")
        seeds = f"1 {one}" if self.estimate.count == 1 else f"{self.estimate.count} {self.repeats}"
        if self.same:
            return f"{first} and {second} are the same to rounding ({seeds})"
        change = self.estimate.words
        if self.estimate.count < 2:
            amount = f"is {change} times that of {first}" if self.ratio else f"differs by {change}"
            return f"{second} {amount} (one {one}: no interval)"
        tail = f", p = {format_number(self.p)}, {seeds}"
        if not self.shown:
            return f"no difference shown: {'ratio' if self.ratio else 'difference'} {change}{tail}"
        if self.ratio:
            return f"{second} is {change} times that of {first}{tail}"
        mean, low, high = self.estimate.mean, self.estimate.low, self.estimate.high
        better = (mean > 0) == self.maximized
        size = self.estimate if mean >= 0 else Estimate(-mean, -high, -low, self.estimate.count)
        return f"{second} is {'better' if better else 'worse'} than {first} by {size.words}{tail}"


def estimate(values: Sequence[float], overlap: float = 0.0) -> Estimate:
    """Estimate the mean of some values; `overlap` is the ratio of test to training samples of folds."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count)
    from scipy.special import stdtrit

    error = np.std(values, ddof=1) * math.sqrt(1 / count + overlap)
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2) * error)
    return Estimate(mean, mean - half, mean + half, count)


def effect(
    setting: str,
    key: str,
    backends: tuple[str, str],
    first: Sequence[float],
    second: Sequence[float],
    ratio: bool = False,
    maximized: bool = False,
    overlap: float = 0.0,
    rounding: float = ROUNDING,
) -> Effect:
    """Compare two backends by their values for the same seeds, without the correction for several tests.

    A ratio is tested on logarithms; see `estimate` for `overlap`. Values are the same up to `rounding`.
    """
    ours, theirs = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if ratio:
        changes = estimate(np.log(theirs / ours).tolist(), overlap)
        mean, low, high = (math.exp(log) for log in (changes.mean, changes.low, changes.high))
        shown = Estimate(mean, low, high, changes.count)
    else:
        shown = changes = estimate((theirs - ours).tolist(), overlap)
    scale = rounding * np.maximum(np.abs(ours), np.abs(theirs))
    same = not ratio and bool((np.abs(theirs - ours) <= scale).all())
    return Effect(setting, key, backends, shown, p_value(changes), ratio, same, maximized)


def p_value(changes: Estimate) -> float:
    """Return the p-value of the two-sided t-test against a mean of zero; NaN for one value."""
    if changes.count < 2:
        return math.nan
    from scipy.special import stdtr, stdtrit

    half = changes.high - changes.mean
    if half == 0:
        return 1.0 if changes.mean == 0 else 0.0
    statistic = changes.mean / half * stdtrit(changes.count - 1, (1 + LEVEL) / 2)
    return float(2 * stdtr(changes.count - 1, -abs(statistic)))


def corrected(effects: Sequence[Effect]) -> list[Effect]:
    """Correct the p-values for the number of tests (Holm 1979)."""
    tested = sorted((e for e in effects if not math.isnan(e.p) and not e.same), key=lambda e: e.p)
    known: dict[int, float] = {}
    highest = 0.0
    for place, one in enumerate(tested):
        highest = max(highest, min(1.0, one.p * (len(tested) - place)))
        known[id(one)] = highest
    return [replace(one, p=known.get(id(one), one.p)) for one in effects]
