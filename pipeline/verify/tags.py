"""Values that stand for elements of parameters, so that an operation shows where it moves each of them.

An operation on parameters alone is executed once more, on tags. Where its result holds tags again, it has
only moved elements: interpolated a table to its own size, cut a triangle, rolled a kernel.
"""

import numpy as np


def tags(elements: np.ndarray) -> np.ndarray:
    """Return a value between 1 and 2 for each number of an element, another for each; 0 for -1."""
    # Fibonacci hashing (Knuth 1973): consecutive numbers are spread over the interval.
    mixed = (elements.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    values = 1.0 + (mixed >> np.uint64(12)).astype(np.float64) / 2.0**52
    return np.where(elements < 0, 0.0, values)


def untag(values: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """Return the numbers of the elements that values stand for; None if one stands for none.

    `known` are the numbers that may occur. A zero is an element of no parameter, -1.
    """
    numbers = np.unique(known[known >= 0])
    if not numbers.size or values.dtype != np.float64:
        return None
    expected = tags(numbers)
    order = np.argsort(expected)
    at = np.minimum(np.searchsorted(expected[order], values), len(order) - 1)
    is_tag = expected[order][at] == values
    if not (is_tag | (values == 0)).all() or not is_tag.any():
        return None
    return np.where(is_tag, numbers[order][at], -1)
