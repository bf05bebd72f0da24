"""Precision of recorded numbers, and what differs by rounding alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.verify.checks.differences import BAR, NEGLIGIBLE


@dataclass(frozen=True)
class Precision:
    """A floating-point type: its unit in the last place, and the bars of what is computed in it."""

    name: str
    unit: float  # relative distance of neighbouring numbers
    bar: float  # largest accepted difference at the first step
    growth: float  # accepted multiple of what differed before a step
    most: float  # difference above which a later step says no more

    @property
    def update_bar(self) -> float:
        """Largest accepted difference of an update.

        In float32, 1 - beta2 of Adam has an error of 1e-5 where a framework computes it on the device.
        """
        return 10 * self.bar if self.name == "float32" else self.bar

    @property
    def negligible(self) -> float:
        """Fraction of the largest gradient below which the rounding of a sum may be above the bar."""
        return max(NEGLIGIBLE, 4 * self.unit / self.bar)


PRECISIONS = {
    one.name: one
    for one in (
        Precision("float64", 2.0**-52, BAR, 100, 1e-4),
        Precision("float32", 2.0**-23, 1e-5, 100, 1e-2),
        Precision("float16", 2.0**-10, 5e-3, 10, 0.2),
        Precision("bfloat16", 2.0**-7, 2e-2, 10, 0.3),
    )
}


def precision_of(dtype: str) -> Precision | None:
    """Return the precision of a type, by its name; None of integers."""
    if dtype.startswith("float8"):
        return PRECISIONS["bfloat16"]
    return PRECISIONS.get({"complex64": "float32", "complex128": "float64"}.get(dtype, dtype))


def lowest(dtypes: Iterable[str]) -> Precision:
    """Return the lowest precision among types of which one is a floating-point type."""
    return max(filter(None, map(precision_of, dtypes)), key=lambda one: one.bar)


def rounded(array: np.ndarray, precision: Precision) -> np.ndarray:
    """Round to a precision, as float64; two copies of the same weights are then the same."""
    if precision.name == "bfloat16":
        bits = np.asarray(array, np.float32).view(np.uint32)
        halfway = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return ((bits + halfway) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    return np.asarray(array).astype(precision.name).astype(np.float64)
