"""Weights for a check: no layer is zero, symmetric or saturated."""

from collections.abc import Iterable

import numpy as np

from pipeline.rng import generator
from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Layer, Owners
from pipeline.verify.trace.graph import Role


def draw_values(
    own: Arrays, owners: Owners, layers: Iterable[Layer], is_used: np.ndarray, seed: int
) -> Arrays:
    """Return values for a side's arrays, each from its own stream of the seed.

    Matrices are drawn with the standard deviation 1/√inputs, tables with 1/2; all others are the model's
    own values, moved by a fifth. Elements that are not used keep their own values.
    """
    spread = np.zeros(owners.size)  # standard deviation of a matrix's elements, by number
    for layer in layers:
        if layer.role in (Role.dot, Role.conv):
            spread[layer.elements] = 1 / np.sqrt(max(1, np.prod(layer.elements.shape[1:])))
        elif layer.role is Role.lookup:
            spread[layer.elements] = 0.5
    values = {}
    for index, array in enumerate(owners.arrays):
        mine = np.asarray(own[array.name], np.float64)
        random = generator(seed, "verify", array.name)
        noise = random.standard_normal(mine.shape)
        wide = spread[owners.elements(index)]
        largest = np.abs(mine).max(initial=0.0) or 1.0
        moved = mine * (1 + 0.2 * np.clip(noise, -3, 3)) + (
            0.0 if (mine != 0).all() else 0.1 * largest * noise
        )
        fresh = np.where(wide > 0, wide * noise, moved)
        values[array.name] = np.where(is_used[owners.elements(index)], fresh, mine)
    return values
