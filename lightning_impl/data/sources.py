"""The raw image data sets, read by torchvision into plain arrays.

Runs as a short process of its own (see `pipeline/data/sources/decode_subprocess.py`):

    python -m lightning_impl.data.sources --name cifar10 --root DIR --download --out DIR

Samples are in the order of the raw files. The twin `flax_impl/data/sources.py` reads the same images through
TFDS, in the order of the TFDS split.

Source: https://docs.pytorch.org/vision/stable/datasets.html
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.sources import mirror
from pipeline.data.sources.decode_subprocess import serve
from pipeline.data.sources.raw_files import read_raw_files
from pipeline.errors import UserError

# Data set: (torchvision's class, the folder below the root with its raw files).
SETS = {
    "mnist": ("MNIST", "MNIST/raw"),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
}

DAMAGED = "damaged"  # how an error describes files that cannot be read


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """Return all arrays of a data set; see `read_raw_files`."""
    return read_raw_files(sys.modules[__name__], name, root, download)


def fetch(name: str, root: Path) -> None:
    """Download missing raw files, from the mirror if one is set, and check them."""
    builder(name, root)(root, train=False, download=True)


def split(name: str, root: Path, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the inputs and targets of one split, `train` or `test`, and the names of its classes."""
    images = builder(name, root)(root, train=part == "train", download=False)
    inputs = np.ascontiguousarray(images.data, dtype=np.uint8)
    targets = np.asarray(images.targets, dtype=np.int64)
    # MNIST has no axis of channels.
    return inputs if inputs.ndim == 4 else inputs[..., None], targets, images.classes


def missing(name: str, root: Path) -> str | None:
    """Sentence that names the missing raw files; None if there are none."""
    folder = folder_of(name, root)
    absent = [file for file in _raw_files(builder(name, root)) if not (folder / file).is_file()]
    return f"{', '.join(absent)} of {name} are missing in {folder}" if absent else None


def folder_of(name: str, root: Path) -> Path:
    """Folder of the raw files of a data set."""
    return root / SETS[name][1]


def builder(name: str, root: Path) -> Any:
    """torchvision's class for a data set, with the mirror's address and checksums.

    Both are attributes of the class. The subclass keeps its name, since torchvision names MNIST's folder
    after it.
    """
    import torchvision

    original = getattr(torchvision.datasets, SETS[name][0])
    table, url = mirror.read_checksums(name, root), mirror.mirror_url(name)

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
    """The files that torchvision reads, with the MD5 of those that it checks."""
    if hasattr(kind, "resources"):
        return {file.removesuffix(".gz"): None for file, _ in kind.resources}
    return dict(kind.train_list) | dict(kind.test_list) | {kind.meta["filename"]: kind.meta["md5"]}


def check(name: str, root: Path, error: Exception) -> None:
    """Raise a UserError that names the file with a wrong checksum, if there is one.

    torchvision's own error names neither the file nor the cause.
    """
    from torchvision.datasets.utils import calculate_md5

    kind, folder = builder(name, root), folder_of(name, root)
    files = {folder / file: md5 for file, md5 in _raw_files(kind).items()}
    if hasattr(kind, "resources"):
        files |= {folder / file: md5 for file, md5 in kind.resources}
    else:
        files |= {root / kind.filename: kind.tgz_md5}
    for file, expected in files.items():
        if expected and file.is_file() and (found := calculate_md5(file)) != expected:
            hint = (
                "It is damaged or another version: delete it and type dataset.download=true. "
                f"If it is meant to differ, list it in {mirror.checksums_file(name, root)}."
            )
            allowed = f"the file with MD5 {expected}"
            raise UserError(str(file), f"(MD5 {found})", allowed, hint) from error


def by_hand(name: str, root: Path) -> str:
    """Hint: the files to put in place without a download."""
    kind, folder = builder(name, root), folder_of(name, root)
    if hasattr(kind, "resources"):
        return f"By hand: put {', '.join(_raw_files(kind))} (unpacked) into {folder}."
    return f"By hand: unpack {kind.filename} in {root}, which makes {folder}."


if __name__ == "__main__":
    serve(read)
