"""Masks of the images in a folder: a file for each, with a class for each pixel."""

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.datasets import FolderConfig
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.folder.decoding import RECORD, Corrupt, FileKind, decode_files
from pipeline.data.sources.folder.listing import Listing, images_below
from pipeline.data.stored_images import scaled
from pipeline.errors import UserError

SIDE_BY_SIDE = ("images", "masks")  # sub-folders of `dataset.root`
MODES = ("1", "L", "P")  # of Pillow, with a class for each pixel
WORDS = 4  # of 64 bits: which of 256 values a mask has


def mask_folders(root: Path, config: FolderConfig) -> tuple[Path, Path | None]:
    """Return the folder of the images, and that of their masks; None if there are none."""
    if config.masks is not None:
        folder = Path(config.masks).expanduser().absolute()
        if not folder.is_dir():
            problem = "it is a file, not a folder" if folder.exists() else "there is no such folder"
            raise UserError(
                "dataset.masks", folder, problem=problem, hint=nearest_path(folder).strip()
            )
        return root, folder
    images, masks = (root / name for name in SIDE_BY_SIDE)
    if config.labels is None and images.is_dir() and masks.is_dir():
        return images, masks
    return root, None


def add_masks(listing: Listing, folder: Path) -> Listing:
    """Find the mask of each image: the PNG file of the same name, below a folder of the same name.

    Raises:
        UserError: an image has no mask.
    """
    try:
        files = images_below(folder, folder)
        found = {stem(file.name): file for file in files if file.name.lower().endswith(".png")}
    except OSError as error:
        problem = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        raise UserError("dataset.masks", folder, problem=problem) from error
    missing = [name for name in listing.files if stem(name) not in found]
    if missing:
        count = f"{len(missing)} of {len(listing.files)}"
        problem = f"{count} images have no mask among its {len(found)} PNG files: {missing[0]}"
        hint = f"Name it {Path(missing[0]).with_suffix('.png')}, below this folder."
        raise UserError("dataset.masks", folder, problem=problem, hint=hint)
    masks = [found[stem(name)] for name in listing.files]
    digest = sha256(listing.digest.encode())
    for file in masks:
        digest.update(os.fsencode(f"{file.name}\0{file.size}\0{file.modified}\n"))
    names = tuple(file.name for file in masks)
    return replace(listing, masks=names, mask_root=folder, digest=digest.hexdigest())


def stem(name: str) -> str:
    """Return a path without its ending."""
    return str(Path(name).with_suffix(""))


def decode_masks(
    scratch: Path, listing: Listing, shorter: int, threads: int, skip_corrupt: bool
) -> Arrays:
    """Decode the masks of a listing into `scratch`; see `decode_images`.

    Returns:
        `masks`: uint8 [bytes], one after the other; `mask_offsets`: int64 [files]; `mask_sizes`: int32
        [files, 2]; `mask_values`: int64 [files, 4], a bit for each of the 256 values that a mask has.
    """
    assert listing.mask_root is not None
    file, records = decode_files(
        MASKS, scratch, listing.mask_root, listing.masks, shorter, threads, skip_corrupt
    )
    lengths = records[:, 0] * records[:, 1]
    return {
        "masks": np.load(file, mmap_mode="r"),
        "mask_offsets": np.cumsum(lengths) - lengths,
        "mask_sizes": records[:, :2].astype(np.int32),
        "mask_values": records[:, 2 : 2 + WORDS],
    }


def decode_mask(path: Path, shorter: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode a mask, and shrink it as its image to the nearest pixels; return it with its record."""
    from PIL import Image  # late: only this needs it

    with path.open("rb") as stream:
        try:
            with Image.open(stream) as opened:
                opened.load()
                picture = opened.copy()
        except Exception as error:  # Pillow raises many kinds for a broken file
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk
            raise Corrupt(str(error) or type(error).__name__) from error
    if picture.mode not in MODES:
        raise Corrupt(f"a mask has one class for each pixel, in mode L or P, not {picture.mode}")
    if min(picture.size) > shorter:
        height, width = scaled(picture.height, picture.width, shorter)
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
    mask = np.asarray(picture).astype(np.uint8)
    record = np.zeros(RECORD, np.int64)
    record[:2] = mask.shape
    is_there = np.bincount(mask.ravel(), minlength=256) > 0
    record[2 : 2 + WORDS] = np.packbits(is_there, bitorder="little").view("<i8")
    return mask, record


MASKS = FileKind("masks", "mask_records", 1, decode_mask)


def check_sizes(listing: Listing, arrays: Arrays) -> None:
    """Refuse a mask of another size than its image."""
    sizes, masks = arrays["sizes"], arrays["mask_sizes"]
    differs = (sizes != masks).any(axis=1) & (sizes[:, 0] > 0) & (masks[:, 0] > 0)
    if differs.any():
        row = int(differs.argmax())
        (height, width), (others, wide) = sizes[row].tolist(), masks[row].tolist()
        problem = f"{listing.masks[row]} has {wide} × {others} pixels, its image {width} × {height}"
        raise UserError("dataset.masks", listing.mask_root, problem=problem)


def class_count(listing: Listing, values: np.ndarray, rows: np.ndarray, ignored: int) -> int:
    """Return the number of classes: the highest value in the masks of these rows but `ignored`, + 1.

    `values` are those of `decode_masks`.

    Raises:
        UserError: there is one class only.
    """
    bits = np.unpackbits(np.bitwise_or.reduce(values[rows]).view(np.uint8), bitorder="little")
    found = [value for value in np.flatnonzero(bits).tolist() if value != ignored]
    if len(found) < 2:
        held = ", ".join(map(str, np.flatnonzero(bits).tolist()))
        problem = f"all pixels of the masks are of one class; their values are {held}"
        hint = f"Number the classes 0, 1, …; task.ignored={ignored} is none."
        raise UserError("dataset.masks", listing.mask_root, problem=problem, hint=hint)
    return found[-1] + 1
