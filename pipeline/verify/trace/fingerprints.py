"""Fingerprints: numbers that tell if two arrays hold the same values, in whatever layout.

Two programs that compute the same do not lay out their intermediate results alike: channels first or last,
heads split or merged, positions repeated over the batch or not. A fingerprint ignores the order of values
and how often all of them are repeated.
"""

import numpy as np

# Statistics of a fingerprint: magnitudes first, which the others are compared with.
FIELDS = ("rms", "mean", "mean of |x|", "cube root of the mean of x³", "smallest", "largest")

# Values beyond this are a mask's, -1e9 or -inf: they are left out, since they would hide the others.
MASKED = 1e5

Fingerprint = np.ndarray  # float64 [6]; NaN if a value is not finite


def fingerprint(array: np.ndarray) -> Fingerprint:
    """Return the fingerprint of an array of any shape, float64 `[6]`."""
    x = np.asarray(array, np.float64).ravel()
    if x.size and not (np.abs(x) < MASKED).all():
        kept = x[~(np.abs(x) >= MASKED)]  # NaN stays
        x = kept if 2 * kept.size >= x.size else x
    if not x.size:
        return np.zeros(len(FIELDS))
    with np.errstate(all="ignore"):  # the squares of a mask of the largest numbers are infinite
        square = x * x
        cubes = np.dot(square, x) / x.size
        return np.array(
            [
                np.sqrt(square.mean()),
                x.mean(),
                np.abs(x).mean(),
                np.cbrt(cubes),
                x.min(),
                x.max(),
            ]
        )


def is_informative(print_: Fingerprint) -> bool:
    """True if the values are finite and not all the same: a constant is found anywhere."""
    return bool(np.isfinite(print_).all() and print_[5] - print_[4] > 1e-9 * print_[0])


def distance(left: Fingerprint, right: Fingerprint) -> float:
    """Largest difference of two fingerprints, relative to the larger rms; inf if one is not finite."""
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return np.inf
    scale = max(left[0], right[0])
    # The cube root is left out where the cubes cancel: there it magnifies rounding.
    used = np.abs(left - right)
    if min(abs(left[3]), abs(right[3])) < 0.01 * scale:
        used = np.delete(used, 3)
    largest = float(used.max())
    return largest / scale if scale else largest


class Index:
    """Fingerprints of one side, to be looked up by value."""

    def __init__(self, prints: np.ndarray) -> None:
        """Take fingerprints, float64 `[n, 6]`."""
        self.prints = np.asarray(prints, np.float64).reshape(-1, len(FIELDS))
        self.order = np.argsort(self.prints[:, 0], kind="stable")
        self.sorted = self.prints[self.order, 0]

    def find(self, print_: Fingerprint, tolerance: float) -> list[int]:
        """Return the numbers of the fingerprints that are the same up to `tolerance`, closest first."""
        low = np.searchsorted(self.sorted, print_[0] * (1 - tolerance) - 1e-300)
        high = np.searchsorted(self.sorted, print_[0] * (1 + tolerance) + 1e-300, side="right")
        near = [(distance(print_, self.prints[at]), int(at)) for at in self.order[low:high]]
        return [at for far, at in sorted(near) if far <= tolerance]
