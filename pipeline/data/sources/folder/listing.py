"""Files of a folder of images, with their classes and splits; no image is opened."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.checks.suggestions import nearest
from pipeline.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
SPLITS = ("train", "val", "test")  # sub-folders of `dataset.root`, or values of the column `split`
FOLDERS_AT_ONCE = 16  # listed in parallel: on a network each waits for its answers


class File(NamedTuple):
    """An image file; a change of its size or time means other pixels."""

    name: str  # path below `dataset.root`
    size: int  # bytes
    modified: int  # nanoseconds


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a data set, in the order of their names.

    Attributes:
        files: their paths below `root`.
        labels: int64 [n], their classes.
        classes: names of the classes.
        splits: int8 [n], 0 for training, 1 for validation, 2 for testing; None if no splits are given.
        digest: hash over names, sizes, times, classes and splits.
    """

    root: Path
    files: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray | None
    digest: str


def list_images(root: Path, labels: Path | None) -> Listing:
    """List the images below `root`; their classes are their sub-folders, or stand in the table `labels`.

    Raises:
        UserError: there are no images or classes, or a table or folder cannot be read.
    """
    try:
        return listed_by_table(root, labels) if labels else listed_by_folder(root)
    except OSError as error:
        problem = f"{error.filename or root} cannot be read: {error.strerror or error}"
        raise UserError("dataset.root", root, problem=problem) from error


def listed_by_folder(root: Path) -> Listing:
    """List images in sub-folders by class, or in such folders below train, val and test."""
    given = [root / split for split in SPLITS]
    if not any(child.is_dir() for child in subfolders(given[0])):
        found = list_classes(root, root)
        if not any(found.values()):
            raise no_images(root)
        return make_listing(root, [(found, None)], tuple(found))
    found = list_classes(given[0], root)
    if not any(found.values()):
        raise no_images(given[0])
    parts = [(found, 0)]
    for place, folder in enumerate(given[1:], 1):
        if not folder.is_dir():
            continue
        others = list_classes(folder, root)
        if not any(others.values()):
            raise no_images(folder)
        for name in others:
            if name not in found:
                close = nearest(name, found)
                hint = f"Did you mean {close}?" if close else f"{given[0]} has the classes."
                problem = f"{folder / name} is a class without training images"
                raise UserError("dataset.root", root, problem=problem, hint=hint)
        parts.append((others, place))
    return make_listing(root, parts, tuple(found))


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


def no_images(folder: Path) -> UserError:
    """Make the error for a folder whose sub-folders hold no image."""
    hint = "Put the images of each class into a sub-folder, or set dataset.labels=FILE.csv."
    with os.scandir(folder) as entries:
        kinds = Counter(Path(entry.name).suffix.lower() for entry in entries if entry.is_file())
    if any(kinds[suffix] for suffix in SUFFIXES):
        problem = f"the images of {folder} lie in no sub-folder that names their class"
        return UserError("dataset.root", folder, problem=problem, hint=hint)
    others = ", ".join(f"{number} × {kind or 'no ending'}" for kind, number in kinds.most_common(3))
    beside = f"; beside sub-folders it has {others}" if others else ""
    problem = f"no sub-folder of {folder} has a {' '.join(SUFFIXES)} file{beside}"
    return UserError("dataset.root", folder, problem=problem, hint=hint)


def listed_by_table(root: Path, table: Path) -> Listing:
    """List the images that a CSV table names in the column `file`, with `label`, and `split` if it has it."""
    try:
        rows = read_table(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
        raise UserError("dataset.labels", table, problem=problem) from error
    names = sorted({row["label"] for row in rows}, key=by_number_or_name)
    found: dict[int | None, dict[str, list[File]]] = {}
    missing = []
    for row in rows:
        place = SPLITS.index(row["split"]) if "split" in row else None
        try:
            stat = os.stat(root / row["file"])
        except (FileNotFoundError, NotADirectoryError):
            missing.append(row["file"])
            continue
        classes = found.setdefault(place, {name: [] for name in names})
        classes[row["label"]].append(File(row["file"], stat.st_size, stat.st_mtime_ns))
    if missing:
        problem = f"{len(missing)} of its {len(rows)} files are not below {root}: {missing[0]}"
        hint = "The column file has paths below dataset.root."
        raise UserError("dataset.labels", table, problem=problem, hint=hint)
    if 0 not in found and None not in found:
        raise UserError("dataset.labels", table, problem="no row has split=train")
    parts = [(found[place], place) for place in (None, 0, 1, 2) if place in found]
    return make_listing(root, parts, tuple(names))


def read_table(table: Path) -> list[dict[str, str]]:
    """Read a table's rows, and check its columns and splits."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = reader.fieldnames or []
        for needed in ("file", "label"):
            if needed not in columns:
                problem = f"it has no column {needed}, but {', '.join(columns) or 'none'}"
                hint = "Its first line must name the columns: file,label."
                raise UserError("dataset.labels", table, problem=problem, hint=hint)
        rows = list(reader)
    if not rows:
        raise UserError("dataset.labels", table, problem="it has no rows")
    for number, row in enumerate(rows, 2):
        if not row["file"] or not row["label"]:
            raise UserError("dataset.labels", table, problem=f"line {number} lacks a file or label")
        if "split" in row and row["split"] not in SPLITS:
            problem = f"line {number} has the split {row['split']!r}"
            hint = f"It must be one of {', '.join(SPLITS)}."
            raise UserError("dataset.labels", table, problem=problem, hint=hint)
    return rows


def by_number_or_name(label: str) -> tuple[int, float, str]:
    """Sort key of a class: numbers by value, before names."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def make_listing(
    root: Path,
    parts: Sequence[tuple[Mapping[str, Iterable[File]], int | None]],
    classes: tuple[str, ...],
) -> Listing:
    """Join the files by class of one or more splits into a listing."""
    numbers, digest = {name: n for n, name in enumerate(classes)}, sha256()
    files: list[str] = []
    labels, splits = [], []
    for found, split in parts:
        for name, of_class in found.items():
            before = len(files)
            for file in of_class:
                files.append(file.name)
                digest.update(os.fsencode(f"{file.name}\0{file.size}\0{file.modified}\n"))
            labels.append(np.full(len(files) - before, numbers[name], np.int64))
            splits.append(np.full(len(files) - before, split or 0, np.int8))
    digest.update(os.fsencode("\n".join(chain(classes, (repr(split) for _, split in parts)))))
    joined, of_split = np.concatenate(labels), np.concatenate(splits)
    digest.update(joined.tobytes() + of_split.tobytes())
    given = of_split if any(split is not None for _, split in parts) else None
    return Listing(root, files, joined, classes, given, digest.hexdigest())
