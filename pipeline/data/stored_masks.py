"""Masks of images in one memory-mapped file: a class for each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.image_augmentation import FLIP, ImageAugmentation, random_box
from pipeline.data.stored_images import ImageFile, StoredImages, middle_box, part_of, scaled


@dataclass(frozen=True)
class MaskFile(ImageFile):
    """The masks, one after the other, each uint8 [height, width]."""

    def __getitem__(self, index: int) -> np.ndarray:
        """One mask as stored; its pixels stay on the disk until they are read."""
        height, width = self.sizes[index].tolist()
        start = int(self.offsets[index])
        return self.pixels[start : start + height * width].reshape(height, width)


@dataclass(frozen=True, eq=False)
class StoredMasks(StoredImages):
    """The masks of `StoredImages`, cut and mirrored as these are: uint8 [n, size, size].

    Where an image is resampled, a mask takes the nearest pixel, so that its values stay classes.
    """

    ndim = 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that it stands for."""
        return (len(self.rows), self.size, self.size)

    def fill(self, pixels: np.ndarray, indices: np.ndarray, words: np.ndarray | None) -> None:
        """Write the masks of samples into an array; see `StoredImages.take`."""
        for place, row in enumerate(self.rows[indices].tolist()):
            mask = self.file[row]
            if words is None or self.augmentation is None:
                mask = nearest(mask, *scaled(mask.shape[0], mask.shape[1], self.resize))
                pixels[place] = part_of(mask, middle_box(mask, self.size))
            else:
                drawn = words[place].tolist()
                pixels[place] = cropped(mask, self.size, self.augmentation, drawn)


def cropped(
    mask: np.ndarray, size: int, augmentation: ImageAugmentation, words: Sequence[int]
) -> np.ndarray:
    """Return the part of a mask that `stored_images.cropped` takes of its image: uint8 `[size, size]`."""
    box = random_box(mask.shape[0], mask.shape[1], augmentation, words)
    mask = nearest(part_of(mask, box), size, size)
    return mask[:, ::-1] if augmentation.flip and words[FLIP] >> 63 else mask


def nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask to the nearest pixels: uint8 `[height, width]`."""
    if mask.shape == (height, width):
        return mask
    # The middle of a new pixel lies in an old one, as in Pillow's NEAREST.
    rows = (np.arange(height) * 2 + 1) * mask.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * mask.shape[1] // (2 * width)
    return mask[rows[:, None], columns]
