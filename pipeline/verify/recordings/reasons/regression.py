"""Proportions between arrays of two recordings."""

from collections.abc import Sequence

import numpy as np

from pipeline.verify.checks.differences import largest


def proportion(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Return the factor of least squares from left to right arrays; 1 if the left ones are zero."""
    square = sum(float(np.vdot(a, a)) for a in left)
    return (
        sum(float(np.vdot(a, b)) for a, b in zip(left, right, strict=True)) / square
        if square
        else 1.0
    )


def remains(factor: float, left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Return the largest difference that a factor leaves, relative to the right arrays' largest number."""
    scale = max(map(largest, right), default=0.0)
    rest = max((largest(factor * a - b) for a, b in zip(left, right, strict=True)), default=0.0)
    value = rest / scale if scale else 0.0
    return value if np.isfinite(value) else np.inf


def is_round(value: float, digits: int = 2, tolerance: float = 1e-4) -> bool:
    """True for a number with few digits, such as a person sets: 0.5, 1, 0.025."""
    near = float(f"{value:.{digits - 1}e}")
    return abs(value - near) <= tolerance * abs(value)
