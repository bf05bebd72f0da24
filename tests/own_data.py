"""A user's own data, as `dataset=own` calls it."""

import numpy as np


def images(samples=120, classes=3):
    """Images of a brightness that tells their class."""
    random = np.random.default_rng(0)
    labels = np.arange(samples) % classes
    pixels = random.integers(0, 80, (samples, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return {"image": pixels.astype(np.uint8), "label": labels}
