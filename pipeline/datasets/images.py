"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, decoded by torchvision or by TFDS.

Both libraries give the same images. They give them in two orders (torchvision in that of the raw
files, TFDS shuffled when it prepared them), so that the two sources are two data sets with their
own splits: for equal runs on two backends, take the same `dataset.source`.
"""

import os
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config import ImagesConfig, Source
from pipeline.datasets.cache import load_or_build
from pipeline.datasets.data import Data, Split, Task
from pipeline.datasets.decoding import decode
from pipeline.datasets.moments import moments
from pipeline.datasets.strata import divide, stratified_order
from pipeline.errors import UserError

CLASSES = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}


def load(config: ImagesConfig) -> Data:
    """uint8 [n, height, width, channels] images, memory-mapped, of `CLASSES[config.name]` classes.

    The first call decodes the raw files in a process of its own; the next ones only map the cache
    `<root>/cache/<name>-<source>-v1/`.

    Raises:
        UserError: the raw files are missing or damaged, the download failed, `dataset.root`
            cannot be used, or `limit` or `val_fraction` asks for more than there is.
    """
    root = checked_root(config)
    label = f"{config.name}-{config.source.name}-v1"
    build = partial(ordered, config.source, config.name, root, config.download)
    arrays = load_or_build(root, label, build)

    training = Split(arrays["train_inputs"], arrays["train_targets"])
    test = Split(arrays["test_inputs"], arrays["test_targets"])
    mean, std = (np.array(arrays[name]) for name in ("mean", "std"))  # not mapped: a few numbers
    train, val = divide(training, config)
    classes = arrays.get("classes")  # which caches of before do not have
    return Data(
        name=config.name,
        task=Task.classification,
        train=train,
        val=val,
        test=test,
        outputs=CLASSES[config.name],
        mean=mean,
        std=std,
        classes=None if classes is None else tuple(classes.tolist()),
    )


def ordered(
    source: Source, name: str, root: Path, download: bool, scratch: Path
) -> dict[str, np.ndarray]:
    """The decoded arrays with their moments, the training set in the stratified order for ever.

    In that order any held-out or limited part is a slice, which stays memory-mapped.
    """
    arrays = decode(source, name, root, download, scratch)
    order = stratified_order(arrays["train_targets"])
    training = {part: arrays[part][order] for part in ("train_inputs", "train_targets")}
    mean, std = moments(training["train_inputs"])
    return arrays | training | {"mean": mean, "std": std}


def checked_root(config: ImagesConfig) -> Path:
    """`dataset.root` as an absolute path.

    Raises:
        UserError: it is a file or cannot be read; or it is missing, and nothing may be fetched.
    """
    root = Path(config.root).expanduser().absolute()
    if root.is_dir():
        if not os.access(root, os.R_OK | os.X_OK):
            raise UserError("dataset.root", root, "a folder that you may read")
    elif root.exists():
        raise UserError("dataset.root", root, "a folder, and it is a file")
    elif not config.download:
        raise UserError(
            "dataset.root",
            root,
            f"the folder with the files of {config.name}, and there is no such folder",
            "Type dataset.download=true to fetch them, or dataset.root=FOLDER where they are.",
        )
    return root
