"""The raw image data sets, read by torchvision into plain arrays.

Runs as a short process of its own (see `pipeline/datasets/decoding.py`):

    python -m lightning_impl.sources --name cifar10 --root DIR --download --out DIR

The order is that of the raw files. The twin `flax_impl/sources.py` gives the same images through
TFDS, in the order of the TFDS split.

Source: https://docs.pytorch.org/vision/stable/datasets.html
"""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets import mirror
from pipeline.datasets.decoding import download_failed, serve, told
from pipeline.errors import UserError

# Data set: (torchvision's class, the folder below the root with its raw files).
SETS = {
    "mnist": ("MNIST", "MNIST/raw"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
}


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """All arrays of a data set.

    Args:
        name: a key of `SETS`.
        root: the folder with the raw files.
        download: fetch them first if they are not there.

    Returns:
        `train_inputs` and `test_inputs`, uint8 [n, height, width, channels]; `train_targets` and
        `test_targets`, int64 [n]; `classes`, str [classes], their names.

    Raises:
        UserError: the files are missing or damaged, or the download failed.
    """
    if download:
        fetch(name, root)
    elif absent := missing(name, root):
        raise UserError(
            "dataset.root",
            root,
            f"the folder with the files of {name}, and {', '.join(absent)} are missing "
            f"in {root / SETS[name][1]}",
            f"Type dataset.download=true to fetch them. {by_hand(name, root)}",
        )
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_inputs"], arrays[f"{part}_targets"], classes = split(name, root, part)
    return arrays | {"classes": np.array(classes)}


def fetch(name: str, root: Path) -> None:
    """Download what is missing, from the mirror if there is one, and check it.

    Raises:
        UserError: a checksum is wrong, or the download failed.
    """
    try:
        builder(name, root)(root, train=False, download=True)
    except Exception as error:  # whatever a network or a broken archive can cause
        check(name, root, error)
        raise download_failed(name, error, by_hand(name, root)) from error


def split(name: str, root: Path, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The inputs and targets of one split, `train` or `test`, and what its classes are called.

    Raises:
        UserError: the files are damaged.
    """
    try:
        images = builder(name, root)(root, train=part == "train", download=False)
        inputs = np.ascontiguousarray(images.data, dtype=np.uint8)
        targets = np.asarray(images.targets, dtype=np.int64)
    except Exception as error:  # whatever reading a broken file can cause
        check(name, root, error)
        raise damaged(name, root, error) from error
    # MNIST comes without the axis of channels.
    return inputs if inputs.ndim == 4 else inputs[..., None], targets, images.classes


def missing(name: str, root: Path) -> list[str]:
    """The names of the raw files that are not there."""
    folder = root / SETS[name][1]
    return [file for file in _raw_files(builder(name, root)) if not (folder / file).is_file()]


def builder(name: str, root: Path) -> Any:
    """torchvision's class for a data set, pointed to the mirror and its checksums.

    Checksums and addresses are attributes of the class. The subclass keeps its name, since
    torchvision names MNIST's folder after it.
    """
    import torchvision

    original = getattr(torchvision.datasets, SETS[name][0])
    table, url = mirror.checksums(name, root), mirror.address(name)

    def listed(files: list) -> list:
        return [(file, table.get(file, {}).get("md5", md5)) for file, md5 in files]

    if issubclass(original, torchvision.datasets.MNIST):
        changes = {"resources": listed(original.resources)}
        changes |= {"mirrors": [url]} if url else {}
    else:
        ((_, tgz_md5),) = listed([(original.filename, original.tgz_md5)])
        ((_, meta_md5),) = listed([(original.meta["filename"], original.meta["md5"])])
        changes = {
            "tgz_md5": tgz_md5,
            "train_list": listed(original.train_list),
            "test_list": listed(original.test_list),
            "meta": original.meta | {"md5": meta_md5},
        }
        changes |= {"url": url + original.filename} if url else {}
    return type(original.__name__, (original,), changes)


def _raw_files(kind: Any) -> dict[str, str | None]:
    """The files that torchvision reads, with their MD5 where it checks one."""
    if hasattr(kind, "resources"):
        return {file.removesuffix(".gz"): None for file, _ in kind.resources}
    return dict(kind.train_list) | dict(kind.test_list) | {kind.meta["filename"]: kind.meta["md5"]}


def check(name: str, root: Path, error: Exception) -> None:
    """Say so if a file with a wrong checksum is behind an error.

    torchvision does not tell which file it is, nor by its error that it is that.

    Raises:
        UserError: there is one.
    """
    from torchvision.datasets.utils import calculate_md5

    kind, folder = builder(name, root), root / SETS[name][1]
    files = {folder / file: md5 for file, md5 in _raw_files(kind).items()}
    if hasattr(kind, "resources"):
        files |= {folder / file: md5 for file, md5 in kind.resources}
    else:
        files |= {root / kind.filename: kind.tgz_md5}
    for file, expected in files.items():
        if expected and file.is_file() and (found := calculate_md5(file)) != expected:
            raise UserError(
                str(file),
                f"(MD5 {found})",
                f"the file with MD5 {expected}",
                "It is damaged or another version: delete it and type dataset.download=true. "
                f"If it is meant to differ, list it in {mirror.checksums_file(name, root)}.",
            ) from error


def damaged(name: str, root: Path, error: Exception) -> UserError:
    """The message for raw files that cannot be read."""
    folder = root / SETS[name][1]
    return UserError(
        "dataset.root",
        root,
        f"the folder with the files of {name}, and those in {folder} are damaged: {told(error)}",
        f"Delete {folder} and type dataset.download=true. {by_hand(name, root)}",
    )


def by_hand(name: str, root: Path) -> str:
    """What to put where without a download."""
    kind, folder = builder(name, root), root / SETS[name][1]
    if hasattr(kind, "resources"):
        return f"By hand: put {', '.join(_raw_files(kind))} (unpacked) into {folder}."
    return f"By hand: unpack {kind.filename} in {root}, which makes {folder}."


if __name__ == "__main__":
    serve(read)
