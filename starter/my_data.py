"""Your own data: arrays by name, a row for each sample."""

import numpy as np


def load(samples: int = 3000, noise: float = 0.2) -> dict[str, np.ndarray]:
    """Return points of two spirals in the plane, and which of the two each is on."""
    random = np.random.default_rng(0)
    label = random.integers(0, 2, samples)
    turn = np.pi * random.uniform(0.5, 3, samples)
    angle = turn + np.pi * label
    points = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return {"features": points + noise * random.standard_normal(points.shape), "label": label}
