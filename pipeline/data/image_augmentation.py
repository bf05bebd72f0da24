"""Random-resized crop, flip and colour jitter of one image, the same bytes on every machine.

The random numbers of a sample are words of a counter-based generator keyed by seed, epoch and sample, so
neither the batch size nor the number of threads matters. Pillow resamples in whole numbers, and so does
the jitter compute. The distributions are those of torchvision's `RandomResizedCrop`,
`RandomHorizontalFlip` and `ColorJitter` (https://docs.pytorch.org/vision/stable/transforms.html).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from pipeline.config.datasets import CroppedConfig
from pipeline.rng import random_keys, random_words

TRIES = 10  # boxes that are drawn until one lies within the image
TOP, LEFT, FLIP, ORDER, FACTORS = (2 * TRIES + place for place in range(5))
WORDS = FACTORS + 3  # random words of each sample, 64 bits each
ONE = 1 << 16  # of the jitter's fixed-point factors
ORDERS = tuple(permutations(range(3)))  # of brightness, contrast and saturation


class Box(NamedTuple):
    """Part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class ImageAugmentation:
    """How training images are cropped, mirrored and recoloured.

    Attributes:
        scale: smallest and largest share of the image's area that a crop takes.
        ratio: smallest and largest width over height of a crop.
        flip: True to mirror half of the images left to right.
        jitter: greatest relative change of brightness, contrast and saturation, 0 for none.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: bool
    jitter: tuple[float, float, float]


def augmentation_of(config: CroppedConfig, scale: Sequence[float]) -> ImageAugmentation:
    """Return the augmentation that a config sets; `scale` is its `dataset.scale`."""
    brightness, contrast, saturation = config.jitter
    return ImageAugmentation(
        (scale[0], scale[1]),
        (config.ratio[0], config.ratio[1]),
        config.flip,
        (brightness, contrast, saturation),
    )


def sample_words(seed: int, epoch: int | str, samples: np.ndarray, *view: str) -> np.ndarray:
    """Return the random words of samples in an epoch: uint64 `[samples, WORDS]`.

    `view` names the field, where an image has several.
    """
    keys = random_keys(WORDS, seed, "image", epoch, *view)
    return random_words(keys, samples[:, None].astype(np.uint64))


def uniform(word: int) -> float:
    """Return a number in [0, 1) from a word."""
    return (word >> 11) * 2.0**-53


def random_box(
    height: int, width: int, augmentation: ImageAugmentation, words: Sequence[int]
) -> Box:
    """Draw the box of a random-resized crop: a random share of the area, at a random place.

    The logarithm of width over height is uniform. If no box fits, it is the largest in the middle whose
    ratio is allowed.
    """
    (least, most), (flattest, widest) = augmentation.scale, augmentation.ratio
    start, stop = math.log(flattest), math.log(widest)
    for place in range(0, 2 * TRIES, 2):
        area = height * width * (least + uniform(words[place]) * (most - least))
        ratio = math.exp(start + uniform(words[place + 1]) * (stop - start))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(uniform(words[TOP]) * (height - box_height + 1))
            left = int(uniform(words[LEFT]) * (width - box_width + 1))
            return Box(top, left, box_height, box_width)
    box_height, box_width = height, width
    if width < flattest * height:
        box_height = max(1, min(height, round(width / flattest)))
    elif width > widest * height:
        box_width = max(1, min(width, round(height * widest)))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def recoloured(
    image: np.ndarray, augmentation: ImageAugmentation, words: Sequence[int]
) -> np.ndarray:
    """Mirror an image where drawn, and change its colours: uint8 `[height, width, 3]`."""
    if augmentation.flip and words[FLIP] >> 63:
        image = image[:, ::-1]
    if not any(augmentation.jitter):
        return image
    for change in ORDERS[words[ORDER] % len(ORDERS)]:
        if limit := augmentation.jitter[change]:
            lowest, highest = max(0.0, 1 - limit), 1 + limit
            drawn = lowest + uniform(words[FACTORS + change]) * (highest - lowest)
            image = CHANGES[change](image, round(drawn * ONE))
    return image


def brightened(image: np.ndarray, factor: int) -> np.ndarray:
    """Blend an image with black; `factor` is that of the image, of `ONE`."""
    return _table(0, factor)[image]


def contrasted(image: np.ndarray, factor: int) -> np.ndarray:
    """Blend an image with the mean of its grey values; `factor` is that of the image, of `ONE`."""
    grey = _greyscale(image)
    mean = (int(grey.sum()) + grey.size // 2) // grey.size
    return _table(mean, factor)[image]


def saturated(image: np.ndarray, factor: int) -> np.ndarray:
    """Blend an image with its grey values; `factor` is that of the image, of `ONE`."""
    blended = image * np.int32(factor)
    blended += (_greyscale(image) * np.int32(ONE - factor) + ONE // 2)[..., None]
    blended >>= 16
    return blended.clip(0, 255).astype(np.uint8)


CHANGES = (brightened, contrasted, saturated)


def _table(other: int, factor: int) -> np.ndarray:
    """Blend of every value with another one: uint8 `[256]`."""
    blended = (np.arange(256) * factor + other * (ONE - factor) + ONE // 2) >> 16
    return blended.clip(0, 255).astype(np.uint8)


def _greyscale(image: np.ndarray) -> np.ndarray:
    """Grey values by ITU-R 601, with Pillow's weights: int32 `[height, width]`."""
    grey = image[..., 0] * np.int32(19595)
    grey += image[..., 1] * np.int32(38470)
    grey += image[..., 2] * np.int32(7471)
    grey += 1 << 15
    grey >>= 16
    return grey
