"""Settings of Adam and its relatives, estimated from gradients and updates."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, minimize_scalar

MOST = 4000  # elements that are fitted
GOOD = 2e-3  # largest accepted difference of an update, relative to the largest


@dataclass(frozen=True)
class AdaptiveFit:
    """An update `-rate · (g / (|g| + epsilon) + decay · w)`, or with the epsilon inside the root."""

    rate: float
    decay: float
    epsilon: float
    is_inside: bool
    rest: float  # largest difference that the fit leaves, relative to the largest update
    size: float  # of a typical gradient, squared if the epsilon is inside

    @property
    def has_epsilon(self) -> bool:
        """True if the epsilon is large enough to be seen."""
        return self.epsilon > 10 * self.rest * self.size


@dataclass(frozen=True)
class BetasFit:
    """Adam's betas."""

    one: float
    two: float
    rest: float  # largest difference that the fit leaves, relative to the rate


def fit_adaptive(
    update: np.ndarray, gradient: np.ndarray, weights: np.ndarray
) -> AdaptiveFit | None:
    """Estimate the settings from the first step; None if it is not Adam's."""
    chosen = _chosen(update, gradient)
    if len(chosen) < 8:
        return None
    u, g, w = update[chosen], gradient[chosen], weights[chosen]
    size = float(np.median(np.abs(g)))
    found = []
    for is_inside in (False, True):

        def solve(exponent: float, is_inside: bool = is_inside) -> tuple[float, np.ndarray, float]:
            epsilon = 10.0**exponent
            direction = g / (np.sqrt(g * g + epsilon) if is_inside else np.abs(g) + epsilon)
            columns = np.stack([-direction, -w], 1)
            factors, *_ = np.linalg.lstsq(columns, u, rcond=None)
            rest = np.abs(columns @ factors - u).max() / np.abs(u).max()
            return float(rest), factors, epsilon

        # From where it changes no digit to where the update is proportional to the gradient.
        scale = np.log10(size * size if is_inside else size)
        grid = np.linspace(scale - (12 if is_inside else 10), scale + 5, 45)
        start = min(grid, key=lambda exponent: solve(exponent)[0])
        best = minimize_scalar(
            lambda e: solve(e)[0], bounds=(start - 0.5, start + 0.5), method="bounded"
        )
        found.append((*min(solve(best.x), solve(start), key=lambda one: one[0]), is_inside))
    outside, inside = found
    # An epsilon too small to be seen fits either way.
    rest, factors, epsilon, is_inside = inside if inside[0] < 0.1 * outside[0] else outside
    if rest > GOOD or factors[0] <= 0:
        return None
    size = size * size if is_inside else size
    decay = float(factors[1] / factors[0])
    return AdaptiveFit(float(factors[0]), decay, epsilon, is_inside, rest, size)


def fit_betas(
    fit: AdaptiveFit,
    last: np.ndarray,
    update: np.ndarray,
    gradient: np.ndarray,
    weights: np.ndarray,
) -> BetasFit | None:
    """Estimate Adam's betas from the second step, `last` being the gradient of the first."""
    chosen = _chosen(update, gradient * last)
    u, g, before, w = update[chosen], gradient[chosen], last[chosen], weights[chosen]

    def rest(logits: np.ndarray) -> np.ndarray:
        one, two = 1 / (1 + np.exp(-logits))
        # Averages over two steps with their bias corrected.
        mean = (one * before + g) / (1 + one)
        square = (two * before**2 + g**2) / (1 + two)
        root = np.sqrt(square + fit.epsilon) if fit.is_inside else np.sqrt(square) + fit.epsilon
        return (-fit.rate * (mean / root + fit.decay * w) - u) / fit.rate

    starts = [np.log([a / (1 - a), b / (1 - b)]) for a in (0.5, 0.9) for b in (0.9, 0.999)]
    found = min((least_squares(rest, start) for start in starts), key=lambda one: one.cost)
    if np.abs(found.fun).max() > GOOD:
        return None
    one, two = 1 / (1 + np.exp(-found.x))
    return BetasFit(float(one), float(two), float(np.abs(found.fun).max()))


def _chosen(update: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Places of the elements to fit: evenly chosen among those that move."""
    places = np.flatnonzero((update != 0) & (gradient != 0))
    return places[:: max(1, len(places) // MOST)]
