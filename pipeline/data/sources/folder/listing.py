"""Files of a folder of images, with their classes and splits; no image is opened."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.checks.suggestions import nearest
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
FOLDERS_AT_ONCE = 16  # listed in parallel: on a network each waits for its answers


class File(NamedTuple):
    """An image file; a change of its size or time means other pixels."""

    name: str  # path below `dataset.root`
    size: int  # bytes
    modified: int  # nanoseconds


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a data set.

    Attributes:
        root: their folder.
        files: their paths below it.
        labels: int64 [n], the class of each; or uint8 [n, classes], 1 for each of its classes; None if
            there are no classes.
        classes: names of the classes.
        splits: int8 [n], 0 for training, 1 for validation, 2 for testing; None if no splits are given.
        digest: hash over names, sizes, times, classes, splits and masks.
        masks: the paths of their masks below `mask_root`.
    """

    root: Path
    files: Sequence[str]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    splits: np.ndarray | None
    digest: str
    masks: Sequence[str] = ()
    mask_root: Path | None = None


def make_listing(
    root: Path,
    files: Sequence[File],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    splits: np.ndarray | None,
) -> Listing:
    """Make a listing with its digest."""
    digest = sha256()
    for file in files:
        digest.update(os.fsencode(f"{file.name}\0{file.size}\0{file.modified}\n"))
    digest.update(os.fsencode("\n".join(classes)))
    for array in (labels, splits):
        digest.update(b"none" if array is None else array.tobytes())
    names = [file.name for file in files]
    return Listing(root, names, labels, classes, splits, digest.hexdigest())


def list_folder(root: Path, has_classes: bool) -> Listing:
    """List the images below `root`, where sub-folders name their classes.

    They may lie below train, val and test. Without classes they may lie anywhere.

    Raises:
        UserError: there are no images, validation has a class of its own, or a folder cannot be read.
    """
    try:
        return list_splits(root, has_classes)
    except OSError as error:
        problem = f"{error.filename or root} cannot be read: {error.strerror or error}"
        raise UserError("dataset.root", root, problem=problem) from error


def list_splits(root: Path, has_classes: bool) -> Listing:
    """List the images of `root`, or of train, val and test below it."""
    train = root / SPLITS[0]
    is_split = any(subfolders(train)) if has_classes else train.is_dir()
    folders = [folder for folder in map(root.joinpath, SPLITS) if is_split and folder.is_dir()]
    files: list[File] = []
    labels, splits, classes = [], [], ()
    for folder in folders or [root]:
        found = list_classes(folder, root) if has_classes else {"": [*images_below(folder, root)]}
        if not any(found.values()):
            raise no_images(folder, has_classes)
        classes = classes or tuple(found)
        require_known(found, classes, folder)
        place = SPLITS.index(folder.name) if folders else 0
        for name, of_class in found.items():
            files += of_class
            labels.append(np.full(len(of_class), classes.index(name), np.int64))
            splits.append(np.full(len(of_class), place, np.int8))
    joined = np.concatenate(labels) if has_classes else None
    given = np.concatenate(splits) if folders else None
    return make_listing(root, files, joined, classes if has_classes else (), given)


def require_known(found: Mapping[str, object], classes: Sequence[str], folder: Path) -> None:
    """Refuse a class of validation or test that has no training images."""
    for name in found:
        if name not in classes:
            close = nearest(name, classes)
            others = folder.with_name(SPLITS[0])
            hint = f"Did you mean {close}?" if close else f"{others} has the classes."
            problem = f"{folder / name} is a class without training images"
            raise UserError("dataset.root", folder.parent, problem=problem, hint=hint)


def subfolders(folder: Path) -> list[Path]:
    """List the visible sub-folders of a folder by name; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names)]


def list_classes(folder: Path, root: Path) -> dict[str, list[File]]:
    """List the images in each sub-folder, however deep, by the sub-folder's name."""
    folders = subfolders(folder)
    with ThreadPoolExecutor(FOLDERS_AT_ONCE, "listing") as pool:
        found = list(pool.map(lambda path: list(images_below(path, root)), folders))
    return {path.name: files for path, files in zip(folders, found, strict=True)}


def images_below(
    folder: Path, root: Path, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[File]:
    """Yield the images of a folder and its sub-folders by name; links are followed, cycles are not.

    `above` are device and inode of the folders on the way.
    """
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if e.name[0] != "."), key=lambda entry: entry.name)
    start = len(str(root)) + 1
    for entry in visible:
        if entry.name.lower().endswith(SUFFIXES):
            stat = entry.stat()
            yield File(entry.path[start:], stat.st_size, stat.st_mtime_ns)
        elif entry.is_dir():
            yield from images_below(Path(entry.path), root, above | {here})


def no_images(folder: Path, has_classes: bool) -> UserError:
    """Make the error for a folder without images, or whose sub-folders hold none."""
    hint = "Put the images of each class into a sub-folder, or set dataset.labels=FILE.csv or none."
    with os.scandir(folder) as entries:
        kinds = Counter(Path(entry.name).suffix.lower() for entry in entries if entry.is_file())
    if any(kinds[suffix] for suffix in SUFFIXES):
        problem = f"the images of {folder} lie in no sub-folder that names their class"
        return UserError("dataset.root", folder, problem=problem, hint=hint)
    others = ", ".join(f"{number} × {kind or 'no ending'}" for kind, number in kinds.most_common(3))
    beside = f"; beside sub-folders it has {others}" if others else ""
    where = (
        f"no sub-folder of {folder} has"
        if has_classes
        else f"neither {folder} nor a sub-folder has"
    )
    problem = f"{where} a {' '.join(SUFFIXES)} file{beside}"
    return UserError("dataset.root", folder, problem=problem, hint=hint if has_classes else "")
