"""Mean and standard deviation of images, exactly."""

import numpy as np


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel.

    From a count of each of the 256 values, so that the sums are whole numbers: the result does
    not depend on the order of the images, nor on how NumPy sums.

    Args:
        images: uint8 [n, height, width, channels].

    Returns:
        Mean and population standard deviation, float64 [channels] each, in the images' units;
        the deviation is 1 where a channel is constant, so that dividing by it is safe.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 4096):  # bincount needs eight times a part's memory
        part = images[start : start + 4096]
        for channel in range(channels):
            counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)

    # Python's integers from here: the sum's square passes 64 bits.
    total = sum(counts[0].tolist())
    first = [sum(v * n for v, n in enumerate(row)) for row in counts.tolist()]
    second = [sum(v * v * n for v, n in enumerate(row)) for row in counts.tolist()]
    mean = np.array([f / total for f in first])
    variance = np.array(
        [(total * s - f * f) / total**2 for f, s in zip(first, second, strict=True)]
    )
    return mean, np.where(variance == 0, 1.0, np.sqrt(variance))
