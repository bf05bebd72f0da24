"""Images of a column in one file, of any size, as those of a folder are stored."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.column_datasets import ColumnsConfig
from pipeline.data.image_augmentation import augmentation_of
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.columns.pixels import converted, decoding, opened
from pipeline.data.sources.folder.decoding import HEADER, arrays_of, shrunk, write_header
from pipeline.data.stored_images import ImageFile, StoredImages

PIXELS, RECORDS = "pixels", "records"  # the arrays of a field: FIELD.pixels, FIELD.records


class StoredPixels:
    """Writer of the images of a column, shrunk where both sides exceed `shorter`.

    `stem` is the path of its files without their last part.
    """

    def __init__(self, column: str, shorter: int, stem: Path, threads: int | None) -> None:
        self.column, self.shorter, self.stem, self.length = column, shorter, stem, 0
        self.threads = threads or len(os.sched_getaffinity(0))
        self.records: list[np.ndarray] = []
        self.pixels = self._file(PIXELS)
        self.pixels.write_bytes(bytes(HEADER))

    def add(self, cells: Sequence[Any], row: int) -> None:
        """Write some images, of which the first is in a row; refuse one that cannot be decoded."""
        with ThreadPoolExecutor(self.threads, "decoding") as pool:
            decoded = pool.map(self._decoded, cells, range(row, row + len(cells)))
            with self.pixels.open("ab") as stream:
                for image, record in decoded:
                    stream.write(np.ascontiguousarray(image).data)
                    self.records.append(record)
                    self.length += image.nbytes

    def arrays(self) -> Arrays:
        """Return the pixels and the records of all images, mapped from their files."""
        write_header(self.pixels, self.length)
        np.save(self._file(RECORDS), np.array(self.records))
        return {name: np.load(self._file(name), mmap_mode="r") for name in (PIXELS, RECORDS)}

    def _decoded(self, cell: Any, row: int) -> tuple[np.ndarray, np.ndarray]:
        with decoding(self.column, row):
            picture = converted(opened(cell, self.column, row), "RGB", self.column, row)
            return shrunk(picture, self.shorter)

    def _file(self, name: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}.{name}.npy")


def stored_shorter(config: ColumnsConfig) -> int | None:
    """Return the shorter side of the images that are stored for crops; None if they are of one size."""
    if config.scale is None or config.size is None:
        return None
    return config.store or config.resize_for(config.size)


def stored_images(pixels: np.ndarray, records: np.ndarray, config: ColumnsConfig) -> StoredImages:
    """Return the field of the images that `StoredPixels` has written."""
    assert config.size is not None
    assert config.scale is not None
    file, size = ImageFile(**arrays_of(pixels, np.asarray(records))), config.size
    augmentation = augmentation_of(config, config.scale)
    rows = np.arange(len(records))
    return StoredImages(file, rows, size, config.resize_for(size), augmentation, config.workers)
