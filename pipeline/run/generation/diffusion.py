"""Images from noise: ancestral sampling of DDPM (Ho et al. 2020, algorithm 2)."""

from collections.abc import Callable

import numpy as np

from pipeline.data.dataset import Moments
from pipeline.rng import generator

# Of noisy images, float64 [n, height, width, channels], and their level, int64 [n], to their noise.
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


def denoise(
    predict: Predict, kept: np.ndarray, shape: tuple[int, ...], seed: int = 0
) -> np.ndarray:
    """Take noise away, level by level, until an image is left: float64 `shape`.

    Args:
        predict: the model.
        kept: share of an image's variance that is left at each level, from the lowest: float64 [levels].
        shape: `[n, height, width, channels]`.
        seed: keys the noise, together with the level.
    """
    images = _noise(seed, len(kept), shape)
    below = np.append(1.0, kept[:-1])
    for level in reversed(range(len(kept))):
        signal = kept[level] / below[level]  # share that this level alone has left
        noise = predict(images, np.full(len(images), level))
        images = images - (1 - signal) / np.sqrt(1 - kept[level]) * noise
        # Variance of the level below, given the images on both sides of it.
        variance = (1 - signal) * (1 - below[level]) / (1 - kept[level])
        images = images / np.sqrt(signal) + np.sqrt(variance) * _noise(seed, level, shape)
    return images


def to_pixels(images: np.ndarray, moments: Moments | None, dtype: np.dtype) -> np.ndarray:
    """Return normalised images in the units and the type of the data set; what is not finite is 0."""
    if moments is not None:
        images = images * moments.std + moments.mean
    images = np.nan_to_num(images, posinf=0, neginf=0)
    if not np.issubdtype(dtype, np.integer):
        return images.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(images).clip(limits.min, limits.max).astype(dtype)


def _noise(seed: int, level: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw what a level adds; that above the highest is the image to start from.

    Each image has a key of its own, so that it does not depend on how many there are.
    """
    drawn = [
        generator(seed, "samples", level, index).standard_normal(shape[1:])
        for index in range(shape[0])
    ]
    return np.stack(drawn)
