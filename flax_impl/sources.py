"""The raw image data sets, read by TFDS into plain arrays.

Runs as a short process of its own (see `pipeline/datasets/decoding.py`):

    python -m flax_impl.sources --name cifar10 --root DIR --download --out DIR

The order is that of the TFDS split, which TFDS shuffles once when it prepares it. The twin
`lightning_impl/sources.py` gives the same images through torchvision, in the order of the raw
files.

TFDS is used without TensorFlow: it reads ArrayRecord files on its own. Its download of these four
data sets does need TensorFlow, to open the raw files and to encode the images; `builder` replaces
just that. The folder written has TFDS's version, features, samples and order.

Source: https://www.tensorflow.org/datasets/data_source
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets import mirror
from pipeline.datasets.decoding import download_failed, serve, told
from pipeline.datasets.raw import read_binary, read_idx, read_names
from pipeline.errors import UserError

_MNIST_FILES = {
    split: (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    for split, prefix in (("train", "train"), ("test", "t10k"))
}

# Data set: (address of its raw files, {split: files at the address, or in the one archive there}).
SETS = {
    "mnist": ("https://storage.googleapis.com/cvdf-datasets/mnist/", _MNIST_FILES),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", _MNIST_FILES),
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        {
            "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("cifar-10-batches-bin/test_batch.bin",),
        },
    ),
    "cifar100": (
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)},
    ),
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
            f"the folder with the files of {name}, and {root / name} lacks {', '.join(absent)}",
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
    import tensorflow_datasets as tfds

    if not missing(name, root):
        return
    try:
        builder(name, root)(data_dir=root, file_format="array_record").download_and_prepare(
            download_dir=root / "downloads",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    except Exception as error:  # whatever a network or a broken archive can cause
        check(name, root, error)
        raise download_failed(name, error, by_hand(name, root)) from error


def split(name: str, root: Path, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The inputs and targets of one split, `train` or `test`, and what its classes are called.

    Raises:
        UserError: the files are damaged.
    """
    import tensorflow_datasets as tfds

    try:
        images = tfds.builder_from_directory(_newest(name, root)).as_data_source(part)
        features = images.dataset_info.features
        inputs = np.empty((len(images), *features["image"].shape), np.uint8)
        targets = np.empty(len(images), np.int64)
        for index, sample in enumerate(images):
            inputs[index], targets[index] = sample["image"], sample["label"]
    except Exception as error:  # whatever reading a broken file can cause
        raise damaged(name, root, error) from error
    return inputs, targets, features["label"].names


def missing(name: str, root: Path) -> list[str]:
    """The names of the raw files that are not there."""
    return [] if _newest(name, root) else ["VERSION/dataset_info.json"]


def _newest(name: str, root: Path) -> Path | None:
    """The folder with the newest version of a prepared data set, or None."""
    import tensorflow_datasets as tfds

    files = (root / name).glob("*/dataset_info.json")
    folders = [file.parent for file in files if tfds.core.Version.is_valid(file.parent.name)]
    return max(folders, key=lambda folder: tfds.core.Version(folder.name), default=None)


def builder(name: str, root: Path) -> Any:
    """TFDS's class for a data set, pointed to the mirror and its checksums, without TensorFlow.

    Checksums are an attribute of the class, addresses are not: the parts of TFDS's class that ask
    for a file or open one are replaced. Version, features, keys and so the shuffled order stay.
    """
    import tensorflow_datasets as tfds

    original = tfds.builder_cls(name)
    infos = _url_infos(name, root)

    def split_generators(self: Any, downloads: Any) -> dict:
        paths = downloads.download({Path(url).name: url for url in infos})
        if "mnist" not in name:  # CIFAR's archives have the names of the classes
            known = self._cifar_info
            for label, file in zip(known.label_keys, known.label_files, strict=True):
                names = read_names(*paths.values(), known.prefix + file)
                self.info.features[label].names = names
        return {part: self._generate_examples(part, paths) for part in SETS[name][1]}

    changes = {
        "url_infos": infos,
        "_split_generators": split_generators,
        "_generate_examples": lambda self, part, paths: _examples(name, part, paths),
        "__module__": original.__module__,
    }
    with tfds.core.registered.skip_registration():
        return type(original.__name__, (original,), changes)


def _url_infos(name: str, root: Path) -> dict[str, Any]:
    """Size and checksum of each raw file by its address: TFDS's own, or the mirror's."""
    from tensorflow_datasets.core.download import checksums

    address, splits = SETS[name]
    files = [file for part in splits.values() for file in part]
    urls = [address + file for file in files] if address.endswith("/") else [address]

    table, here = mirror.checksums(name, root), mirror.address(name)
    infos = {}
    for url in urls:
        file, original = Path(url).name, checksums.get_all_url_infos()[url]
        listed = {"size": original.size, "sha256": original.checksum} | table.get(file, {})
        info = checksums.UrlInfo(listed["size"], listed["sha256"], filename=file)
        infos[here + file if here else url] = info
    return infos


def _examples(name: str, part: str, paths: dict[str, Path]) -> Iterator[tuple[int, dict]]:
    """The samples of one split as TFDS wants them: (key, features), the key being the position."""
    from PIL import Image

    files = SETS[name][1][part]
    if "mnist" in name:
        inputs, labels = read_idx(paths[files[0]], paths[files[1]])
    else:
        (archive,) = paths.values()
        inputs, labels = read_binary(archive, files, labels=1 if name == "cifar10" else 2)
    for index, (image, label) in enumerate(zip(inputs, labels, strict=True)):
        features = {"image": Image.fromarray(image), "label": int(label[-1])}
        if "mnist" not in name:
            features["id"] = f"{part}_{index:05d}"
        if name == "cifar100":
            features["coarse_label"] = int(label[0])
        yield index, features


def check(name: str, root: Path, error: Exception) -> None:
    """Say so if a file with a wrong checksum is behind an error.

    Raises:
        UserError: there is one.
    """
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    if isinstance(error, NonMatchingChecksumError):
        raise UserError(
            "dataset.download",
            "true",
            f"a download with the right SHA-256 and size: {told(error)}",
            "It is damaged or another version: try again, or look at the mirror. "
            f"If it is meant to differ, list it in {mirror.checksums_file(name, root)}.",
        ) from error


def damaged(name: str, root: Path, error: Exception) -> UserError:
    """The message for raw files that cannot be read."""
    folder = _newest(name, root)
    return UserError(
        "dataset.root",
        root,
        f"the folder with the files of {name}, and those in {folder} are damaged, or not in the "
        f"array_record format: {told(error)}",
        f"Delete {folder} and type dataset.download=true. {by_hand(name, root)}",
    )


def by_hand(name: str, root: Path) -> str:
    """What to put where without a download."""
    return f"By hand: put the folder that TFDS prepared as array_record at {root / name}/VERSION."


if __name__ == "__main__":
    serve(read)
