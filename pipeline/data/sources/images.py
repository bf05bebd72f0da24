"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, decoded by torchvision or by TFDS.

Both libraries give the same images in different orders: torchvision in that of the raw files, TFDS
shuffled. So the splits differ between the two sources; for equal runs on both backends use the same
`dataset.source`.
"""

import os
from pathlib import Path

import numpy as np

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.datasets import ImagesConfig
from pipeline.data.dataset import Data, Moments, Split
from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.sources.channel_stats import channel_moments
from pipeline.data.sources.decode_subprocess import decode
from pipeline.data.splits import make_splits
from pipeline.data.stratified_order import stratified_order
from pipeline.errors import UserError
from pipeline.tasks import Classification, Task

CLASSES = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}


def load(config: ImagesConfig, task: Task | None = None) -> Data:
    """Images of `CLASSES[config.name]` classes: uint8 [n, height, width, channels], memory-mapped.

    The first call decodes the raw files in a subprocess; later calls map the cache
    `<root>/cache/<name>-<source>-v1/`.
    """
    root = check_root(config)

    def build(scratch: Path) -> Arrays:
        arrays = decode(config.source, config.name, root, config.download, scratch)
        # In this order a held-out or limited part is a slice, which stays memory-mapped.
        order = stratified_order(arrays["train_targets"])
        training = {part: arrays[part][order] for part in ("train_inputs", "train_targets")}
        mean, std = channel_moments(training["train_inputs"])
        return arrays | training | {"mean": mean, "std": std}

    arrays = load_or_build(root, f"{config.name}-{config.source.name}-v1", build)
    given = {
        part: Split({"image": arrays[f"{part}_inputs"], "label": arrays[f"{part}_targets"]})
        for part in ("train", "test")
    }
    train, val, test, training = make_splits(given, config)
    moments = Moments(
        np.array(arrays["mean"]), np.array(arrays["std"])
    )  # not mapped: a few numbers
    if config.folds is not None:
        moments = channel_moments(training.arrays["image"])
    # Older caches have no names of classes.
    classes = tuple(arrays["classes"].tolist()) if "classes" in arrays else None
    sizes = {"label": CLASSES[config.name]}
    return Data(config.name, Classification(), train, val, test, sizes, {"image": moments}, classes)


def check_root(config: ImagesConfig) -> Path:
    """Return `dataset.root` as an absolute path; refuse a file, and an unreadable or missing folder."""
    root = Path(config.root).expanduser().absolute()
    if root.is_dir():
        if not os.access(root, os.R_OK | os.X_OK):
            raise UserError("dataset.root", root, problem="you may not read this folder")
    elif root.exists():
        raise UserError("dataset.root", root, problem="it is a file, not a folder")
    elif not config.download:
        hint = f"Set dataset.download=true to download {config.name}, or dataset.root=FOLDER."
        raise UserError(
            "dataset.root", root, hint=nearest_path(root) + hint, problem="there is no such folder"
        )
    return root
