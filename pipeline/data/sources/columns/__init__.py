"""Data sets that a library reads: their columns become fields, decoded once into mapped files."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from pipeline.config.column_datasets import ColumnsConfig
from pipeline.data.dataset import Data
from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.sources.arrays.named_arrays import data_of
from pipeline.data.sources.columns.decoding import ABOUT
from pipeline.data.sources.columns.field_plan import Wanted
from pipeline.data.sources.columns.stored_pixels import (
    PIXELS,
    RECORDS,
    stored_images,
    stored_shorter,
)
from pipeline.data.sources.file_digest import digest_of
from pipeline.data.splits import SPLITS
from pipeline.data.stored_images import StoredImages
from pipeline.errors import UserError
from pipeline.tasks import Task


def load_columns(
    name: str,
    config: ColumnsConfig,
    key: str,
    task: Task | None,
    identity: tuple[object, ...],
    build: Callable[[Wanted, Path], Arrays],
    files: list[Path],
) -> Data:
    """Load a data set through the array cache `<root>/cache/<name>-<digest>-v1/`.

    Args:
        name: the data set, for messages and the cache.
        config: its columns and sizes.
        key: config key that names the data set, for errors.
        task: what is learned; None: as the names of the fields tell.
        identity: what tells it from other data sets, beside its files and the keys of `ColumnsConfig`.
        build: returns the arrays of `decode`, called with the fields that the task names and a folder.
        files: the files that it is read from.
    """
    wanted = None if task is None else frozenset((*task.takes, *task.targets))
    fields = wanted and sorted(wanted)
    shorter = stored_shorter(config)
    size = config.size if shorter is None else ("stored", shorter)
    settings = (config.targets, config.columns, config.splits, size, config.length)
    label = (
        f"{quote(name, safe='')}-{digest_of(files, identity, settings, config.padding, fields)}-v1"
    )
    root = Path(config.root).expanduser().absolute()
    arrays = load_or_build(root, label, lambda scratch: build(wanted, scratch))
    about = json.loads(arrays[ABOUT].tobytes())
    splits = {
        split: {
            key.removeprefix(f"{split}."): array
            for key, array in arrays.items()
            if key.startswith(f"{split}.")
        }
        for split in SPLITS
    }
    given = {split: fields for split, fields in splits.items() if fields}
    images = {split: take_images(fields, about, config) for split, fields in given.items()}
    refuse_unlabelled(given, config)
    sized = replace(config, sizes=about["sizes"] | config.sizes)
    data = data_of(name, given, sized, key, task, images)
    return replace(data, classes=tuple(about["classes"]) or None)


def take_images(
    arrays: Arrays, about: Mapping[str, Sequence[str]], config: ColumnsConfig
) -> dict[str, StoredImages]:
    """Take the arrays of stored images out of those of a split, and return the images by field."""
    return {
        name: stored_images(arrays.pop(f"{name}.{PIXELS}"), arrays.pop(f"{name}.{RECORDS}"), config)
        for name in about.get("stored", ())  # none in a cache of an earlier version
    }


def refuse_unlabelled(splits: Mapping[str, Arrays], config: ColumnsConfig) -> None:
    """Refuse a split whose labels are all -1, as those of a competition's test set."""
    for split, fields in splits.items():
        if "label" in fields and (np.asarray(fields["label"][:1000]) == -1).all():
            others = ", ".join(f"{other}:…" for other in splits if other != split)
            problem = f"all labels of {split} are -1: it is published without them"
            raise UserError(
                "dataset.splits",
                config.splits,
                problem=problem,
                hint=f"Set dataset.splits={{{others}}}.",
            )
