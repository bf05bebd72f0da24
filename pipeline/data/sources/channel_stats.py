"""Mean and standard deviation of fields: exact ones of images."""

from math import prod

import numpy as np

from pipeline.data.dataset import Moments
from pipeline.data.stored_images import StoredImages
from pipeline.data.stored_rows import StoredRows


def channel_moments(images: np.ndarray | StoredRows) -> Moments:
    """Moments of uint8 images [n, height, width, channels].

    The deviation of a constant channel is 1, so that dividing by it is safe. They are computed from
    counts of the 256 values, so the sums are integers: the result depends neither on the order of the
    images nor on how NumPy sums.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 4096):  # bincount takes eight times the memory of a part
        part = np.asarray(images[start : start + 4096])
        for channel in range(channels):
            counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)

    # Python integers (dtype object): the square of the sum exceeds 64 bits.
    values, counts = np.arange(256, dtype=object), counts.astype(object)
    return moments_of_sums(counts[0].sum(), counts @ values, counts @ values**2)


def stored_moments(images: StoredImages) -> Moments:
    """Moments of stored images as decoded, exact as those of arrays; their file has the sums."""
    rows, sums = images.rows, images.file.sums
    assert sums is not None
    sizes = images.file.sizes[rows].astype(np.int64)
    first, second = (sums[rows, power].astype(object).sum(axis=0) for power in (0, 1))
    return moments_of_sums(int(sizes.prod(axis=1).sum()), first, second)


def moments_of_sums(total: int, first: np.ndarray, second: np.ndarray) -> Moments:
    """Moments of `total` values in each channel, from their sums and those of their squares.

    The sums are Python integers `[channels]`, of dtype object.
    """
    mean = (first / total).astype(np.float64)
    variance = ((total * second - first**2) / total**2).astype(np.float64)
    return Moments(mean, np.where(variance == 0, 1.0, np.sqrt(variance)))


def float_moments(array: np.ndarray | StoredRows) -> Moments:
    """Moments of numbers [n, …, channels], in float64; the deviation of a constant channel is 1.

    The sums of parts are merged as by Chan, Golub and LeVeque (1983), which keeps their precision.
    """
    channels = array.shape[-1]
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    rows = max(1, 2**20 // max(1, prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        part = np.asarray(array[start : start + rows], np.float64).reshape(-1, channels)
        shift = part.mean(axis=0) - mean
        total = count + len(part)
        squares += part.var(axis=0) * len(part) + shift**2 * (count * len(part) / total)
        mean += shift * (len(part) / total)
        count = total
    deviation = np.sqrt(squares / count)
    return Moments(mean, np.where(deviation == 0, 1.0, deviation))
