"""Inputs of rows, drawn from a generator; of several shapes, each seed takes its own."""

import numpy as np

from benchmarks.differences.row import Draw

Shape = tuple[int, ...]


def normal(*shapes: Shape, mean: float = 0.0, scale: float = 1.0) -> Draw:
    """Draw normal numbers."""
    return lambda random, seed: mean + scale * random.normal(size=shapes[seed % len(shapes)])


def uniform(*shapes: Shape, low: float = 0.0, high: float = 1.0) -> Draw:
    """Draw uniform numbers."""
    return lambda random, seed: random.uniform(low, high, size=shapes[seed % len(shapes)])


def integers(high: int, *shapes: Shape) -> Draw:
    """Draw whole numbers below `high`."""
    return lambda random, seed: random.integers(high, size=shapes[seed % len(shapes)])


def given(*numbers: object) -> Draw:
    """Take these numbers, whatever the seed."""
    return lambda random, seed: np.array(numbers)


def log_probabilities(*shapes: Shape) -> Draw:
    """Draw logarithms of probabilities along the last axis."""

    def drawn(random: np.random.Generator, seed: int) -> np.ndarray:
        x = random.normal(size=shapes[seed % len(shapes)])
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    return drawn
