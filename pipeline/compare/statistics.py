"""What may be said of runs over several seeds, and what may not.

Intervals are Student's (1908) at 95 %; backends are compared over the same seeds, by the paired t-test.
Of many tests some look significant by chance, so their p-values are Holm's (1979). scipy.special has the
distribution; scipy.stats, which has the tests, takes a second to import.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.announce import number
from pipeline.metrics import direction

LEVEL = 0.95  # of an interval
ROUNDING = 1e-9  # relative; below it two runs are the same


@dataclass(frozen=True)
class Estimate:
    """The mean over seeds and how well it is known.

    Args:
        mean: over the seeds.
        low: end of its 95 % interval; NaN for one seed.
        high: the other end.
        count: of seeds.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def size(self) -> "Estimate":
        """The same of the amount, where the sign is told in words."""
        if self.mean >= 0:
            return self
        return Estimate(-self.mean, -self.high, -self.low, self.count)

    @property
    def words(self) -> str:
        """With both ends of the interval."""
        if self.count < 2:
            return number(self.mean)
        return f"{number(self.mean)} [{number(self.low)}, {number(self.high)}]"

    @property
    def short(self) -> str:
        """With half of the interval's width."""
        if self.count < 2:
            return number(self.mean)
        return f"{number(self.mean)} ± {(self.high - self.low) / 2:.2g}"


@dataclass(frozen=True)
class Effect:
    """The difference of a quantity between two backends, over the same seeds.

    Args:
        setting: what the runs share; empty where that is all that is compared.
        key: of the quantity.
        backends: the names of the two; the difference is the second less the first.
        estimate: of the difference; of a ratio (second by first) where `ratio`.
        p: of the paired test, corrected for the number of tests; NaN for one seed.
        ratio: whether it is one: of speeds and times.
        same: whether all seeds give the same but for rounding.
    """

    setting: str
    key: str
    backends: tuple[str, str]
    estimate: Estimate
    p: float
    ratio: bool = False
    same: bool = False

    @property
    def shown(self) -> bool:
        """Whether there is a difference."""
        return not self.same and self.p < 1 - LEVEL

    @property
    def words(self) -> str:
        """One sentence, which says no more than the numbers do."""
        first, second = self.backends
        seeds = "1 seed" if self.estimate.count == 1 else f"{self.estimate.count} seeds"
        if self.same:
            return f"{first} and {second} are the same to rounding ({seeds})"
        change = self.estimate.words
        if self.estimate.count < 2:
            amount = f"is {change} times that of {first}" if self.ratio else f"differs by {change}"
            return f"{second} {amount} (one seed: no interval)"
        if not self.shown:
            kind = "ratio" if self.ratio else "difference"
            return f"no difference shown: {kind} {change}, p = {number(self.p)}, {seeds}"
        if self.ratio:
            return f"{second} is {change} times that of {first}, p = {number(self.p)}, {seeds}"
        better = (self.estimate.mean > 0) == (direction(self.key) == "max")
        return (
            f"{second} is {'better' if better else 'worse'} than {first} by "
            f"{self.estimate.size.words}, p = {number(self.p)}, {seeds}"
        )


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of some values and its interval."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count)
    from scipy.special import stdtrit

    half = float(stdtrit(count - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(count))
    return Estimate(mean, mean - half, mean + half, count)


def effect(
    setting: str,
    key: str,
    backends: tuple[str, str],
    first: Sequence[float],
    second: Sequence[float],
    ratio: bool = False,
) -> Effect:
    """The difference of two backends over the same seeds, not yet corrected for other tests.

    Args:
        setting: what the runs share.
        key: of the quantity.
        backends: the names of the two.
        first: values of the first backend, a seed each.
        second: those of the second, the same seeds in the same order.
        ratio: by how many times instead of by how much: the test is of the logarithms.
    """
    ours, theirs = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if ratio:
        changes = estimate(np.log(theirs / ours).tolist())
        shown = replace(
            changes, **{name: math.exp(getattr(changes, name)) for name in ("mean", "low", "high")}
        )
    else:
        shown = changes = estimate((theirs - ours).tolist())
    scale = ROUNDING * np.maximum(np.abs(ours), np.abs(theirs))
    same = not ratio and bool((np.abs(theirs - ours) <= scale).all())
    return Effect(setting, key, backends, shown, p_value(changes), ratio, same)


def p_value(changes: Estimate) -> float:
    """Of the two-sided t-test that the mean is zero; NaN for one value."""
    if changes.count < 2:
        return math.nan
    from scipy.special import stdtr, stdtrit

    half = changes.high - changes.mean
    if half == 0:
        return 1.0 if changes.mean == 0 else 0.0
    statistic = changes.mean / half * stdtrit(changes.count - 1, (1 + LEVEL) / 2)
    return float(2 * stdtr(changes.count - 1, -abs(statistic)))


def corrected(effects: Sequence[Effect]) -> list[Effect]:
    """The same with p-values by which all of them may be judged at once (Holm 1979)."""
    tested = sorted((e for e in effects if not math.isnan(e.p) and not e.same), key=lambda e: e.p)
    known: dict[int, float] = {}
    highest = 0.0
    for place, one in enumerate(tested):
        highest = max(highest, min(1.0, one.p * (len(tested) - place)))
        known[id(one)] = highest
    return [replace(one, p=known.get(id(one), one.p)) for one in effects]
