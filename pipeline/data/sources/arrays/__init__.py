"""Named arrays in files of NumPy."""

import numpy as np

from pipeline.config.own_datasets import ArraysConfig
from pipeline.data.dataset import Data
from pipeline.data.sources.arrays.files import KEY, open_arrays, path_of
from pipeline.data.sources.arrays.named_arrays import data_of, default_task
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError
from pipeline.tasks import Task


def load(config: ArraysConfig, task: Task | None = None) -> Data:
    """Load the arrays at `dataset.path`; their names are fields.

    An array is named by its file, without `.npy`, or by its name in a `.npz` file. One that begins with
    `train/`, `val/` or `test/` is of this split: the name in the archive, or a sub-folder or a `.npz` file of
    that name. `.npy` files are mapped where they are; a `.npz` file is extracted once into
    `<root>/cache/npz-<digest of its path, size and time>-v1/`.
    """
    splits: dict[str, dict[str, np.ndarray]] = {}
    for name, array in open_arrays(path_of(config), config.root).items():
        *split, field = name.split("/")
        if len(split) > 1 or not field or (split and split[0] not in SPLITS):
            problem = f"it has an array named {name}"
            hint = "Names are FIELD, train/FIELD, val/FIELD or test/FIELD."
            raise UserError(KEY, config.path, problem=problem, hint=hint)
        splits.setdefault(split[0] if split else "", {})[field] = array
    if "" in splits and len(splits) > 1:
        field, other = next(iter(splits[""])), next(split for split in splits if split)
        problem = f"{field} is of no split, but other arrays are of {other}"
        raise UserError(KEY, config.path, problem=problem, hint=f"Name it train/{field}.")
    if "" not in splits and "train" not in splits:
        problem = f"it has arrays of {' and '.join(splits)}, but none of train"
        raise UserError(KEY, config.path, problem=problem)
    given = {split or "train": fields for split, fields in splits.items()}
    return data_of("arrays", given, config, KEY, task)


def task_of(config: ArraysConfig) -> str | None:
    """Return the name of the task that the arrays at `dataset.path` are for; None if no name tells."""
    names = open_arrays(path_of(config), config.root)
    return default_task({name.rpartition("/")[2] for name in names})
