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


def corners(count: int, shape: tuple[int, ...], columns: int) -> list[tuple[int, int]]:
    """Where the images of a `grid` have their upper left corners: row and column of that pixel.

    Args:
        count: of images.
        shape: height and width of each.
        columns: images side by side.
    """
    height, width = shape[0] + caption_height(shape), shape[1] + gap(shape)
    places = (divmod(place, columns) for place in range(count))
    return [
        (row * height + caption_height(shape), column * width + gap(shape))
        for row, column in places
    ]


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images row by row, with room for a caption above each, on white.

    Args:
        images: uint8 `[n, height, width, channels]`.
        columns: images side by side.

    Returns:
        uint8 `[height, width, channels]`.
    """
    count, height, width, channels = images.shape
    places = corners(count, (height, width), columns)
    down = places[-1][0] + height + gap((height, width))
    across = max(column for _, column in places) + width + gap((height, width))
    canvas = np.full((down, across, channels), 255, np.uint8)
    for image, (row, column) in zip(images, places, strict=True):
        canvas[row : row + height, column : column + width] = image
    return canvas


def gap(shape: tuple[int, ...]) -> int:
    """White pixels beside an image of a grid."""
    return -(-shape[1] // 8)


def caption_height(shape: tuple[int, ...]) -> int:
    """White pixels above an image of a grid."""
    return -(-shape[0] // 3)
