"""Images of a column as arrays of one size."""

import io
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.stored_images import scaled
from pipeline.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = ("1", "L", "LA", "La")  # modes of Pillow with one channel of 8 bits, or less
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes with more


class MixedColours(Exception):
    """A colour image follows grey ones."""


class Pixels:
    """Images of a column as uint8 `[rows, height, width, channels]`; masks as uint8 `[rows, height, width]`.

    Args:
        column: name of the column, for errors.
        size: height and width; None if the images are of one size already.
        channels: 1 for grey, 3 for colour; None for those of the first image.
        is_mask: True for images whose values are classes: they are resized by the nearest pixel.
    """

    def __init__(
        self, column: str, size: int | None, channels: int | None, is_mask: bool = False
    ) -> None:
        self.column, self.size, self.channels, self.is_mask = column, size, channels, is_mask
        self.first: tuple[int, ...] | None = None

    def batch(self, cells: Sequence[Any], row: int) -> np.ndarray:
        """Decode some images, of which the first is in a row; raise `MixedColours` or a `UserError`."""
        pictures = [opened(cell, self.column, row + place) for place, cell in enumerate(cells)]
        if not self.is_mask:
            colours = [picture.mode not in GREY for picture in pictures]
            self.channels = self.channels or (3 if colours[0] else 1)
            if self.channels == 1 and any(colours):
                raise MixedColours
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decoding") as pool:
            rows = range(row, row + len(cells))
            arrays = list(pool.map(self._decoded, pictures, rows))
        for place, array in enumerate(arrays, row):
            self.first = self.first or array.shape
            if array.shape != self.first:
                one, other = (f"{shape[1]} × {shape[0]}" for shape in (array.shape, self.first))
                problem = f"images of {self.column} are {other} pixels, in row {place} {one}"
                raise UserError("dataset.size", "null", problem=problem, hint="Set dataset.size=N.")
        return np.stack(arrays)

    def _decoded(self, picture: "Image", row: int) -> np.ndarray:
        with decoding(self.column, row):
            if not self.is_mask:
                picture = converted(picture, "L" if self.channels == 1 else "RGB", self.column, row)
            elif picture.mode not in ("1", "L", "P"):
                problem = f"has the mode {picture.mode}; a mask has classes, in mode L or P"
                raise refused(self.column, row, problem)
            if self.size is not None:
                picture = middle(picture, self.size, self.is_mask)
            array = np.asarray(picture, np.uint8)
        return array[..., None] if array.ndim == 2 and not self.is_mask else array


@contextmanager
def decoding(column: str, row: int) -> Generator[None]:
    """Turn what Pillow raises for a broken image into a `UserError` that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise refused(column, row, f"cannot be decoded: {error}") from error


def refused(column: str, row: int, problem: str) -> UserError:
    """Make the error for an image of a column."""
    return UserError("dataset.columns", column, problem=f"its image in row {row} {problem}")


def opened(cell: Any, column: str, row: int) -> "Image":
    """Open an image, a file of one, or an array of pixels."""
    from PIL import Image

    with decoding(column, row):
        if isinstance(cell, Image.Image):
            return cell
        if isinstance(cell, bytes):
            return Image.open(io.BytesIO(cell))
        if isinstance(cell, str):
            return Image.open(cell)
        array = np.asarray(cell)
        return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def converted(picture: "Image", mode: str, column: str, row: int) -> "Image":
    """Return an image in another mode of 8 bits a channel; refuse one that has more."""
    if picture.mode in DEEP:
        raise refused(column, row, f"has more than 8 bits a pixel (mode {picture.mode})")
    return picture.convert(mode)


def middle(picture: "Image", size: int, is_mask: bool) -> "Image":
    """Return the middle of an image whose shorter side becomes `size`."""
    from PIL import Image

    height, width = scaled(picture.height, picture.width, size)
    filter_ = Image.Resampling.NEAREST if is_mask else Image.Resampling.BILINEAR
    picture = (
        picture if picture.size == (width, height) else picture.resize((width, height), filter_)
    )
    left, top = (round((length - size) / 2.0) for length in picture.size)
    return picture.crop((left, top, left + size, top + size))
