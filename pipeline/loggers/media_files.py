"""Pictures and tables of a run as files in its folder `media`, whatever other loggers are on."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.atomic_files import replacing, write_text
from pipeline.loggers import Logger

FOLDER = "media"
KEY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
STEP = re.compile(r"-(\d{6,})\.(png|csv)")


class MediaFiles(Logger):
    """Logger that writes `media/KEY-STEP.png` and `media/KEY-STEP.csv` below the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def log_image(self, step: int, key: str, image: np.ndarray) -> None:
        with replacing(self._path(step, key, ".png")) as aside:
            aside.write_bytes(png(image))

    def log_table(
        self, step: int, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        write_text(self._path(step, key, ".csv"), text.getvalue())

    def rewind(self, step: int) -> None:
        for path in self._folder.rglob("*"):
            found = STEP.search(path.name)
            if found and int(found[1]) > step:
                path.unlink()

    def _path(self, step: int, key: str, suffix: str) -> Path:
        path = self._folder / f"{key}-{step:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def latest_pictures(folder: Path) -> dict[str, tuple[int, Path]]:
    """Return the last picture of each key in the folder of a run, with its step."""
    found: dict[str, tuple[int, Path]] = {}
    for path in sorted((folder / FOLDER).rglob("*.png")):
        name = path.relative_to(folder / FOLDER).as_posix()
        if named := STEP.search(name):
            key, step = name[: named.start()], int(named[1])
            found[key] = max(found.get(key, (-1, path)), (step, path))
    return found


def check_key(key: str) -> None:
    """Refuse the key of a picture or table that is no name of a file.

    Raises:
        ValueError: it is not like `samples/first`.
    """
    if not KEY.fullmatch(key):
        raise ValueError(
            f"the key {key!r} must be letters, digits, '_', '-' and '.', with '/' between names."
        )


def to_pixels(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8 `[height, width, channels]`; numbers that are not uint8 are in [0, 1].

    Raises:
        ValueError: it is no image.
    """
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        shape = list(np.shape(image))
        raise ValueError(f"an image is [height, width] or [height, width, 1, 3 or 4], not {shape}.")
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"an image is uint8, or numbers in [0, 1]; these are in [{low:g}, {high:g}]."
        )
    return np.rint(pixels * 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Encode an image, uint8 `[height, width, channels]`, as PNG."""
    from PIL import Image  # late: few runs have pictures

    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(content, "PNG")
    return content.getvalue()
