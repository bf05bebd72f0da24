"""Decoding of image files into one file of pixels, by several threads.

What is decoded is kept when the build is interrupted: the next one continues after the last whole image.
"""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from pipeline.console import say_line
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.stored_images import CHANNELS, scaled
from pipeline.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

HEADER = 128  # bytes before the pixels in `pixels.npy`
SYNCED = 2**28  # bytes that are written between two flushes to the disk
ESTIMATED = 1000  # images after which the needed space is estimated
EVERY = 30  # seconds between two messages
# Of one image: height, width, sums of each channel's values, and of their squares.
RECORD = 2 + 2 * CHANNELS
LEFT_OUT = np.array([0, 1] + [0] * (RECORD - 2), np.int64)  # of a file that cannot be decoded

Decode = Callable[[Path, int], tuple[np.ndarray, np.ndarray]]  # of a file, and the shorter side

T = TypeVar("T")
R = TypeVar("R")


class Corrupt(Exception):
    """A file is no image that can be decoded."""


class FileKind(NamedTuple):
    """A kind of files: images, or masks."""

    name: str  # of the file of their pixels
    records: str  # name of the file of their records
    channels: int
    decode: Decode


IMAGES = FileKind("pixels", "records", CHANNELS, lambda path, shorter: decode_image(path, shorter))


def decode_images(
    scratch: Path,
    root: Path,
    files: Sequence[str],
    shorter: int,
    threads: int,
    skip_corrupt: bool,
) -> Arrays:
    """Decode files into `scratch`, or continue there.

    Args:
        scratch: folder for the pixels and what is known of them.
        root: folder of the files.
        files: paths below `root`.
        shorter: shorter side to which a larger image is shrunk.
        threads: how many decode.
        skip_corrupt: leave out files that cannot be decoded.

    Returns:
        `pixels`: uint8 [bytes], the images one after the other; `offsets`: int64 [files], where each begins;
        `sizes`: int32 [files, 2], height and width, the height 0 of a file left out; `sums`: int64
        [files, 2, 3], sums of each channel's values, and of their squares.

    Raises:
        UserError: a file cannot be decoded, and `skip_corrupt` is false; or the disk is too small.
    """
    file, records = decode_files(IMAGES, scratch, root, files, shorter, threads, skip_corrupt)
    return arrays_of(np.load(file, mmap_mode="r"), records)


def arrays_of(pixels: np.ndarray, records: np.ndarray) -> Arrays:
    """Return the arrays of `decode_images` for pixels and the records of their images."""
    lengths = records[:, 0] * records[:, 1] * CHANNELS
    return {
        "pixels": pixels,
        "offsets": np.cumsum(lengths) - lengths,
        "sizes": records[:, :2].astype(np.int32),
        "sums": records[:, 2:].reshape(-1, 2, CHANNELS),
    }


def decode_files(
    kind: FileKind,
    scratch: Path,
    root: Path,
    files: Sequence[str],
    shorter: int,
    threads: int,
    skip_corrupt: bool,
) -> tuple[Path, np.ndarray]:
    """Decode files of a kind, as `decode_images`.

    Return the file of their pixels, and a record of each, int64 [files, RECORD], which begins with its
    height and width.
    """
    pixels_file, records_file = scratch / f"{kind.name}.npy", scratch / kind.records
    known = finished(pixels_file, records_file, kind.channels)
    written, done = int((known[:, 0] * known[:, 1]).sum()) * kind.channels, len(known)
    with pixels_file.open("ab") as pixels, records_file.open("ab") as records:
        pixels.truncate(HEADER + written)
        records.truncate(done * RECORD * 8)
        progress = Progress(len(files), done, scratch)
        unsynced = 0

        def keep() -> None:
            for stream in (pixels, records):  # records last: they count only with their pixels
                stream.flush()
                os.fsync(stream.fileno())

        paths = [root / file for file in files[done:]]
        decoded = in_order(lambda path: kind.decode(path, shorter), paths, threads)
        try:
            for place, result in enumerate(decoded, done):
                image, record = result_of(result, root / files[place], skip_corrupt)
                pixels.write(image.data)
                records.write(record.data)
                written, unsynced = written + image.nbytes, unsynced + image.nbytes
                if unsynced > SYNCED:
                    keep()
                    unsynced = 0
                progress.advance(place + 1, written)
        finally:
            decoded.close()
            keep()
    write_header(pixels_file, written)
    return pixels_file, np.fromfile(records_file, np.int64).reshape(-1, RECORD)


def finished(pixels_file: Path, records_file: Path, channels: int) -> np.ndarray:
    """Return the records of the images that an earlier build has written: int64 [images, RECORD]."""
    if not (pixels_file.exists() and records_file.exists()):
        pixels_file.write_bytes(bytes(HEADER))
        records_file.write_bytes(b"")
    whole = records_file.stat().st_size // (RECORD * 8) * RECORD
    records = np.fromfile(records_file, np.int64, whole).reshape(-1, RECORD)
    ends = HEADER + np.cumsum(records[:, 0] * records[:, 1] * channels)
    # After a power failure the pixels may be shorter than their records say, and records be zeros.
    is_whole = (records[:, 1] > 0) & (ends <= pixels_file.stat().st_size)
    return records[: np.argmin(np.append(is_whole, False))]


def write_header(pixels_file: Path, length: int) -> None:
    """Write the header of a `.npy` file in front of its `length` bytes of pixels."""
    with pixels_file.open("r+b") as stream:
        about = {"descr": "|u1", "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(stream, about)
        assert stream.tell() == HEADER


def decode_image(path: Path, shorter: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode a file to RGB, and shrink it as `shrunk`; return it with its record.

    As torchvision's `ImageFolder`: transparency is dropped, and the rotation in EXIF data is ignored.
    """
    from PIL import Image  # late: only this needs it

    with path.open("rb") as stream:
        try:
            with Image.open(stream) as opened:
                picture = opened.convert("RGB")
        except Exception as error:  # Pillow raises many kinds for a broken file
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise Corrupt(str(error) or type(error).__name__) from error
    return shrunk(picture, shorter)


def shrunk(picture: "Picture", shorter: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrink an RGB image if both sides exceed `shorter`; return it with its record."""
    from PIL import Image

    if min(picture.size) > shorter:
        height, width = scaled(picture.height, picture.width, shorter)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    counts, values = np.reshape(picture.histogram(), (CHANNELS, 256)), np.arange(256)
    record = [picture.height, picture.width, *(counts @ values), *(counts @ values**2)]
    return np.asarray(picture), np.array(record, np.int64)


def result_of(
    result: Future[tuple[np.ndarray, np.ndarray]], path: Path, skip_corrupt: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return a decoded image and its record; an empty one for a file to leave out."""
    try:
        return result.result()
    except Corrupt as error:
        if skip_corrupt:
            return np.empty((0, 0, CHANNELS), np.uint8), LEFT_OUT
        raise corrupt_file(path, error) from error
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        raise UserError("dataset.root", path.parent, problem=problem) from error


def corrupt_file(path: Path, error: Exception | None = None, count: int = 1) -> UserError:
    """Make the error for a file that cannot be decoded."""
    reason = f": {error}" if error else ""
    more = f", and {count - 1} more files cannot" if count > 1 else ""
    problem = f"{path} cannot be decoded{reason}{more}"
    hint = "Replace it, or set dataset.skip_corrupt=true to leave out such files."
    return UserError("dataset.root", path.parent, problem=problem, hint=hint)


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[Future[R]]:
    """Yield the results of `work` in the order of the items; threads are some items ahead."""
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, "decoding")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 8 * threads:
                first = waiting.popleft()
                first.exception()  # waits
                yield first
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


class Progress:
    """Messages while many images are decoded, and an early one if the disk is too small for them."""

    def __init__(self, count: int, done: int, folder: Path) -> None:
        self.count, self.first, self.folder, self.last = count, done, folder, time.monotonic()
        place = folder.parents[1]
        if done:
            say_line(f"decoding {count:,} images into {place}: continues after {done:,}")
        elif count > ESTIMATED:
            say_line(f"decoding {count:,} images into {place}, once for all runs")

    def advance(self, done: int, written: int) -> None:
        """Say how much is done, every `EVERY` seconds."""
        if done == ESTIMATED:
            self._check_space(written * (self.count - done) // done)
        if (now := time.monotonic()) - self.last > EVERY:
            self.last = now
            say_line(f"decoded {done:,} of {self.count:,} images ({written / 1e9:.1f} GB)")

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            problem = f"the decoded images need about {needed / 1e9:.0f} GB more, {free / 1e9:.0f} are free"
            hint = (
                "Set dataset.cache to another folder, or a smaller dataset.store or dataset.size."
            )
            raise UserError("dataset.cache", self.folder.parents[1], problem=problem, hint=hint)
