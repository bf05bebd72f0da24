"""Images side by side in a grid, for display."""

import numpy as np


def to_displayable_uint8(images: np.ndarray, brightest: float) -> np.ndarray:
    """Scale uint8 pixels from 0..`brightest` to 0..255, rounded; clip larger ones to 255.

    `brightest` is the largest value in the data set: 16 for digits, 255 for photographs. Numbers of another
    type are scaled from the smallest to the largest of these images.
    """
    if images.dtype != np.uint8:
        lowest, highest = images.min(), images.max()
        return np.rint((images - lowest) * (255 / ((highest - lowest) or 1))).astype(np.uint8)
    full = max(brightest, 1)  # 0 if all images are black
    scaled = (images.astype(np.uint32) * 255 + full // 2) // full
    return np.minimum(scaled, 255).astype(np.uint8)


def corners(count: int, shape: tuple[int, ...], columns: int) -> list[tuple[int, int]]:
    """Upper left pixel (row, column) of each image of a `grid`; `shape` is (height, width)."""
    above, beside = caption_height(shape), gap(shape)
    height, width = shape[0] + above, shape[1] + beside
    cells = (divmod(index, columns) for index in range(count))
    return [(row * height + above, column * width + beside) for row, column in cells]


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay out images row by row on white, with room for a caption above each.

    Args:
        images: uint8 `[n, height, width, channels]`.
        columns: images per row.

    Returns:
        uint8 `[height, width, channels]`.
    """
    count, height, width, channels = images.shape
    positions = corners(count, (height, width), columns)
    tops, lefts = zip(*positions, strict=True)
    margin = gap((height, width))
    total = (max(tops) + height + margin, max(lefts) + width + margin, channels)
    canvas = np.full(total, 255, np.uint8)
    for image, (row, column) in zip(images, positions, strict=True):
        canvas[row : row + height, column : column + width] = image
    return canvas


def gap(shape: tuple[int, ...]) -> int:
    """Width of the white space beside an image of a grid, in pixels."""
    return -(-shape[1] // 8)


def caption_height(shape: tuple[int, ...]) -> int:
    """Height of the white space above an image of a grid, in pixels."""
    return -(-shape[0] // 3)
