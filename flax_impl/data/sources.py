"""The raw image data sets, read by TFDS into plain arrays.

Runs as a short process of its own (see `pipeline/data/sources/decode_subprocess.py`):

    python -m flax_impl.data.sources --name cifar10 --root DIR --download --out DIR

Samples are in the order of the TFDS split, which TFDS shuffles once when it prepares it. The twin
`lightning_impl/data/sources.py` reads the same images through torchvision, in the order of the raw files.

TFDS is used without TensorFlow, since it reads ArrayRecord files on its own. Its preparation of these
four data sets does need TensorFlow, to open the raw files and to encode the images. `builder` replaces
those parts. The prepared folder has TFDS's version, features, samples and order.

Source: https://www.tensorflow.org/datasets/data_source
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.sources import mirror
from pipeline.data.sources.decode_subprocess import one_line, serve
from pipeline.data.sources.raw_files import read_raw_files
from pipeline.data.sources.raw_formats import read_binary, read_idx, read_names
from pipeline.errors import UserError

_MNIST_FILES: dict[str, tuple[str, ...]] = {
    split: (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    for split, prefix in (("train", "train"), ("test", "t10k"))
}

# Data set: (address of its raw files, {split: files at the address, or in the one archive there}).
SETS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
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

# How an error describes files that cannot be read.
DAMAGED = "damaged, or not in the array_record format"


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """Return all arrays of a data set; see `read_raw_files`."""
    return read_raw_files(sys.modules[__name__], name, root, download)


def fetch(name: str, root: Path) -> None:
    """Download missing raw files, from the mirror if one is set, and check them."""
    import tensorflow_datasets as tfds

    if folder_of(name, root) is None:
        builder(name, root)(data_dir=root, file_format="array_record").download_and_prepare(
            download_dir=root / "downloads",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


def split(name: str, root: Path, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the inputs and targets of one split, `train` or `test`, and the names of its classes."""
    import tensorflow_datasets as tfds

    folder = str(folder_of(name, root))
    images: Any = tfds.builder_from_directory(folder).as_data_source(split=part)
    features = images.dataset_info.features
    inputs = np.empty((len(images), *features["image"].shape), np.uint8)
    targets = np.empty(len(images), np.int64)
    for index, sample in enumerate(images):
        inputs[index], targets[index] = sample["image"], sample["label"]
    return inputs, targets, features["label"].names


def missing(name: str, root: Path) -> str | None:
    """Sentence that names the missing raw files; None if there are none."""
    absent = folder_of(name, root) is None
    return f"{root / name} lacks VERSION/dataset_info.json" if absent else None


def folder_of(name: str, root: Path) -> Path | None:
    """Folder of the newest prepared version of a data set, or None."""
    import tensorflow_datasets as tfds

    files = (root / name).glob("*/dataset_info.json")
    folders = [file.parent for file in files if tfds.core.Version.is_valid(file.parent.name)]
    return max(folders, key=lambda folder: tfds.core.Version(folder.name), default=None)


def builder(name: str, root: Path) -> Any:
    """TFDS's class for a data set, with the mirror's address and checksums, and without TensorFlow.

    Checksums are an attribute of the class, addresses are not, so the methods that download or open a file
    are replaced. Version, features, keys and therefore the shuffled order stay.
    """
    import tensorflow_datasets as tfds

    original = tfds.builder_cls(name)
    infos = _url_infos(name, root)

    def split_generators(self: Any, downloads: Any) -> dict:
        paths = downloads.download({Path(url).name: url for url in infos})
        if "mnist" not in name:  # CIFAR's archives contain the class names
            known = self._cifar_info
            (archive,) = paths.values()
            for label, file in zip(known.label_keys, known.label_files, strict=True):
                names = read_names(archive, known.prefix + file)
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
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    address, splits = SETS[name]
    files = [file for part in splits.values() for file in part]
    urls = [address + file for file in files] if address.endswith("/") else [address]

    table, here = mirror.read_checksums(name, root), mirror.mirror_url(name)
    infos = {}
    for url in urls:
        file, original = Path(url).name, checksums.get_all_url_infos()[url]
        listed = table.get(file, {})
        checksum = str(listed.get("sha256", original.checksum))
        size = tfds.core.utils.Size(int(listed.get("size", original.size)))
        info = checksums.UrlInfo(size, checksum, filename=file)
        infos[here + file if here else url] = info
    return infos


def _examples(name: str, part: str, paths: dict[str, Path]) -> Iterator[tuple[int, dict]]:
    """Yield the samples of one split in TFDS's form: (key, features), with the position as the key."""
    from PIL import Image

    files = SETS[name][1][part]
    if "mnist" in name:
        inputs, labels = read_idx(paths[files[0]], paths[files[1]])
    else:
        (archive,) = paths.values()
        inputs, labels = read_binary(archive, files, labels=1 if name == "cifar10" else 2)
    for index, (image, label) in enumerate(zip(inputs, labels, strict=True)):
        features: dict[str, object] = {"image": Image.fromarray(image), "label": int(label[-1])}
        if "mnist" not in name:
            features["id"] = f"{part}_{index:05d}"
        if name == "cifar100":
            features["coarse_label"] = int(label[0])
        yield index, features


def check(name: str, root: Path, error: Exception) -> None:
    """Raise a UserError that names the file with a wrong checksum, if there is one."""
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    if isinstance(error, NonMatchingChecksumError):
        raise UserError(
            "dataset.download",
            "true",
            problem=f"the download does not have the right SHA-256 and size: {one_line(error)}",
            hint="It is damaged or another version: try again, or look at the mirror. "
            f"If it is meant to differ, list it in {mirror.checksums_file(name, root)}.",
        ) from error


def by_hand(name: str, root: Path) -> str:
    """Hint: the files to put in place without a download."""
    return f"By hand: put the folder that TFDS prepared as array_record at {root / name}/VERSION."


if __name__ == "__main__":
    serve(read)
