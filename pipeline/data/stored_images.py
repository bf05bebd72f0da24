"""Images of any size in one memory-mapped file, as a field of a split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from pipeline.data.image_augmentation import Box, ImageAugmentation, random_box, recoloured

CHANNELS = 3  # RGB


@dataclass(frozen=True)
class ImageFile:
    """The images, one after the other, each uint8 [height, width, 3]."""

    pixels: np.ndarray  # uint8 [bytes]
    offsets: np.ndarray  # int64 [images], where each begins
    sizes: np.ndarray  # int32 [images, 2], height and width
    # int64 [images, 2, 3], of each channel's values, and of their squares; None if they are not known
    sums: np.ndarray | None = None

    def __getitem__(self, index: int) -> np.ndarray:
        """One image as stored; its pixels stay on the disk until they are read."""
        height, width = self.sizes[index].tolist()
        start = int(self.offsets[index])
        stored = self.pixels[start : start + height * width * CHANNELS]
        return stored.reshape(height, width, CHANNELS)


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Some of the images of a file, as a model takes them: uint8 [n, size, size, 3].

    It stands in a `Split` for an array that would be too large. For evaluation an image is resized until its
    shorter side has `resize` pixels, and the middle is taken. For training `cropped` draws a part of it.

    Attributes:
        file: all images.
        rows: int64 [n], which of them.
        size: height and width of the model's input.
        resize: shorter side of an image before its middle is taken; at least `size`.
        augmentation: the random crops of training; None if training takes the middle, too.
        threads: how many prepare a batch; None for the cores of the process.
    """

    file: ImageFile
    rows: np.ndarray
    size: int
    resize: int
    augmentation: ImageAugmentation | None = None
    threads: int | None = None

    dtype = np.dtype(np.uint8)
    ndim = 4
    nbytes = 0  # of memory: the pixels stay on the disk

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that it stands for."""
        return (len(self.rows), self.size, self.size, CHANNELS)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, part: slice) -> "StoredImages": ...
    @overload
    def __getitem__(self, part: np.ndarray) -> np.ndarray: ...
    def __getitem__(self, part: slice | np.ndarray) -> "StoredImages | np.ndarray":
        """A contiguous part, as a view; or the pixels of the samples at some indices."""
        if isinstance(part, slice):
            return replace(self, rows=self.rows[part])
        return self.take(part)

    def select(self, indices: np.ndarray) -> "StoredImages":
        """Return the samples at some indices, in that order, as a view."""
        return replace(self, rows=self.rows[indices])

    def max(self) -> int:
        """Return the largest value that a pixel may have."""
        return 255

    def take(self, indices: np.ndarray, words: np.ndarray | None = None) -> np.ndarray:
        """Return the pixels of samples: uint8 `[indices, size, size, 3]`.

        `words` are the random numbers of their augmentation, as `sample_words`; without them the middle of
        each image is taken.
        """
        pixels = np.empty((len(indices), *self.shape[1:]), np.uint8)
        self.fill(pixels, indices, words)
        return pixels

    def fill(self, pixels: np.ndarray, indices: np.ndarray, words: np.ndarray | None) -> None:
        """Write the pixels of samples into an array; see `take`."""
        for place, row in enumerate(self.rows[indices].tolist()):
            image = self.file[row]
            if words is None or self.augmentation is None:
                pixels[place] = middle(image, self.size, self.resize)
            else:
                drawn = words[place].tolist()
                pixels[place] = cropped(image, self.size, self.augmentation, drawn)


def cropped(
    image: np.ndarray, size: int, augmentation: ImageAugmentation, words: Sequence[int]
) -> np.ndarray:
    """Return a random part of an image: uint8 `[size, size, 3]`."""
    box = random_box(image.shape[0], image.shape[1], augmentation, words)
    return recoloured(resized(part_of(image, box), size, size), augmentation, words)


def middle(image: np.ndarray, size: int, resize: int) -> np.ndarray:
    """Return the middle of an image whose shorter side becomes `resize`: uint8 `[size, size, 3]`.

    The bytes are those of torchvision's `Resize(resize)` and `CenterCrop(size)` on a Pillow image.
    """
    image = resized(image, *scaled(image.shape[0], image.shape[1], resize))
    return part_of(image, middle_box(image, size))


def middle_box(image: np.ndarray, size: int) -> Box:
    """Return the box in the middle of an image."""
    top, left = (round((length - size) / 2.0) for length in image.shape[:2])
    return Box(top, left, size, size)


def scaled(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Return height and width of an image whose shorter side becomes `shorter`, as torchvision rounds."""
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


def part_of(image: np.ndarray, box: Box) -> np.ndarray:
    """Return a part of an image, as a view."""
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample an image bilinearly, with antialiasing where it shrinks: uint8 `[height, width, 3]`."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image  # late: most runs and commands need none

    data = np.ascontiguousarray(image)
    picture = Image.frombuffer("RGB", (image.shape[1], image.shape[0]), data, "raw", "RGB", 0, 1)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
