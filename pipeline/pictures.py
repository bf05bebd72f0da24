"""Images for a person to look at."""

import numpy as np


def for_the_eye(images: np.ndarray, brightest: int) -> np.ndarray:
    """Images with their pixels scaled from 0..`brightest` to 0..255, rounded; what is above is white.

    Args:
        images: uint8 `[…]`.
        brightest: the largest number that a pixel of the data set has: 16 of digits, 255 of photographs.

    Returns:
        uint8 `[…]`.
    """
    full = max(brightest, 1)  # of black images alone
    scaled = (images.astype(np.uint32) * 255 + full // 2) // full
    return np.minimum(scaled, 255).astype(np.uint8)
