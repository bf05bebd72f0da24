"""A data set made of named arrays: default task, sizes of integer fields, splits and moments."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import NoReturn

import numpy as np

from pipeline.config.own_datasets import NamedArraysConfig
from pipeline.data.dataset import Data, Form, Moments, Split, form_of
from pipeline.data.sample_order import SampleOrder
from pipeline.data.sources.arrays.field_checks import (
    LARGEST,
    Fields,
    check_fields,
    check_finite,
    first_row,
    limits,
    limits_of,
    refused,
)
from pipeline.data.sources.arrays.scans import kept_rows, scanned
from pipeline.data.sources.channel_stats import channel_moments, float_moments, stored_moments
from pipeline.data.splits import make_splits
from pipeline.data.stored_images import CHANNELS, StoredImages
from pipeline.data.stratified_order import KEY
from pipeline.errors import UserError
from pipeline.tasks import TARGETS, TASKS, OwnTask, Task

# The task of a data set with this field, if none is chosen; the first that is there decides.
TASK_OF_FIELD = {
    "source": "seq2seq",
    "label": "classification",
    "labels": "multilabel",
    "target": "regression",
    "mask": "segmentation",
    "next": "language",
    "tokens": "language",
}
UNKNOWN = OwnTask()  # of a data set whose fields do not tell its task
IGNORED = {"mask": 255}  # values that are no class
STRATIFIED = (
    10**7
)  # samples above which classes are in proportion by chance: the order takes seconds
SAME_VALUES = {"next": "tokens"}  # fields with the vocabulary of another


def data_of(
    name: str,
    splits: Mapping[str, Fields],
    config: NamedArraysConfig,
    key: str,
    task: Task | None,
    images: Mapping[str, Mapping[str, StoredImages]] | None = None,
) -> Data:
    """Make a data set of named arrays.

    Args:
        name: the data set, as messages and run.json name it.
        splits: fields by name, `[n, …]` each, of the splits `train`, and `val` and `test` if they are given.
        config: its sizes, splits and limits, as the user set them.
        key: config key that names the arrays, for errors.
        task: what is learned; None: as the names of the fields tell.
        images: fields of each split that are stored images.

    Raises:
        UserError: fields have different lengths or shapes, or a type or values that no model takes.
    """
    about = f"{key}={getattr(config, key.removeprefix('dataset.'))}"
    has_next = task is None or task.names("next")
    check_fields(splits, about, has_next)
    splits = {split: prepared(fields, has_next) for split, fields in splits.items()}
    for split, fields in splits.items():
        if not config.allow_nan:
            check_finite(fields, split, about, config.root)
    sizes = sizes_of(splits, config, about)
    if sizes.get("label") == 1:
        raise refused(about, "label is 0 in all samples of training: one class")
    stored = images or {}
    given = {split: Split({**stored.get(split, {}), **fields}) for split, fields in splits.items()}
    train = given["train"].fields
    default = default_task(train)
    holds_out = "val" not in given and (config.val_fraction > 0 or "test" not in given)
    labels, order = None, None
    if config.folds is not None or config.limit is not None or holds_out:
        count = len(given["train"])
        if default == "classification" and count <= STRATIFIED:
            labels = np.asarray(train["label"])
        else:
            order = SampleOrder(count, KEY, ("split",))
    stratify = partial(kept_rows, root=config.root)
    made = make_splits(
        given,
        config,
        test_fraction=config.test_fraction,
        order=order,
        labels=labels,
        stratify=stratify,
    )
    moments = moments_of(made.training, config)
    own = TASKS[default]() if default else UNKNOWN
    return Data(name, own, made.train, made.val, made.test, sizes, moments)


def default_task(fields: Collection[str]) -> str | None:
    """Return the name of the task that fields of these names are for; None if none tells."""
    found = (task for field, task in TASK_OF_FIELD.items() if field in fields)
    return next(found, None)


def prepared(fields: Fields, has_next: bool) -> dict[str, np.ndarray]:
    """Return fields as models and losses take them, as views.

    Numbers of which a sample has one become `[n, 1]`, truth values 0 and 1. Where there are tokens alone,
    and the next ones are learned, all but the last of a sample are `tokens`, and all but the first `next`.
    """
    made = {}
    for name, array in fields.items():
        if array.dtype == np.bool_:
            array = array.view(np.uint8)
        is_number = np.issubdtype(array.dtype, np.floating)
        made[name] = array[:, None] if is_number and array.ndim == 1 else array
    if has_next and set(made) == {"tokens"}:
        return {"tokens": made["tokens"][:, :-1], "next": made["tokens"][:, 1:]}
    return made


def sizes_of(splits: Mapping[str, Fields], config: NamedArraysConfig, about: str) -> dict[str, int]:
    """Return the number of values of each field of integers: as configured, or its largest value + 1.

    That is of the training samples; a value above it in another split is refused.
    """
    for name, size in config.sizes.items():
        if name not in splits["train"]:
            problem = f"there is no field {name}, only {', '.join(splits['train'])}"
            raise UserError("dataset.sizes", f"{{{name}:{size}}}", problem=problem)
    owners = {
        name: SAME_VALUES.get(name, name)
        for name, array in splits["train"].items()
        if np.issubdtype(array.dtype, np.integer) and form_of(array) is not Form.images
    }
    found = {
        (name, split): limits_of(fields[name], f"{split}/{name}", config.root, IGNORED.get(name))
        for name in owners
        for split, fields in splits.items()
    }
    sizes: dict[str, int] = {}
    for name, owner in owners.items():
        highest = found[name, "train"][1]
        if highest > LARGEST:
            raise refused(about, f"{name} has {highest}; JAX takes integers up to {LARGEST}")
        sizes[owner] = config.sizes.get(owner) or max(sizes.get(owner, 0), highest + 1)
    for (name, split), (lowest, highest) in found.items():
        if lowest < 0 or highest >= sizes[owners[name]]:
            out_of_range(name, splits[split][name], split, sizes[owners[name]], config, about)
    return sizes


def out_of_range(
    name: str,
    array: np.ndarray,
    split: str,
    size: int,
    config: NamedArraysConfig,
    about: str,
) -> NoReturn:
    """Refuse a field of integers with the first value that is negative, or not below `size`."""
    ignored = IGNORED.get(name)

    def is_outside(part: np.ndarray) -> np.ndarray:
        outside = (part < 0) | (part >= size)
        return outside if ignored is None else outside & (part != ignored)

    row, value = first_row(array, is_outside)
    owner = SAME_VALUES.get(name, name)
    given = "dataset.sizes" if owner in config.sizes else "the largest training value + 1"
    problem = f"{name} of {split} has {value} in row {row}, and must be in 0 … {size - 1}"
    hint = "Store numbers that are neither classes nor tokens as floats."
    if value >= 0:
        problem = f"{problem}: {owner}:{size} is {given}"
        hint = f"Mend the data, or set dataset.sizes={{{owner}:{limits(array, ignored)[1] + 1}}}."
    raise refused(about, problem, hint)


def moments_of(training: Split, config: NamedArraysConfig) -> dict[str, Moments]:
    """Return mean and deviation of the fields to normalise; images that are not get 0 and 1."""
    wanted = config.normalize
    for name in wanted or ():
        if name not in training.fields or name in TARGETS:
            fields = ", ".join(n for n in training.fields if n not in TARGETS)
            raise UserError("dataset.normalize", name, f"fields that the model takes: {fields}")
    moments: dict[str, Moments] = {}
    for name, field in training.fields.items():
        if isinstance(field, StoredImages):
            if field.file.sums is not None:
                is_wanted = wanted is None or name in wanted
                unscaled = Moments(np.zeros(CHANNELS), np.ones(CHANNELS))
                moments[name] = stored_moments(field) if is_wanted else unscaled
            continue
        is_image, is_bytes = form_of(field) is Form.images, field.dtype == np.uint8
        if name in wanted if wanted is not None else is_image and is_bytes:
            scan = channel_moments if is_bytes else float_moments
            found = scanned(
                field, f"moments {name}", config.root, lambda f, scan=scan: np.stack(scan(f))
            )
            moments[name] = Moments(*np.array(found))
        elif is_image:
            channels = field.shape[-1]
            moments[name] = Moments(np.zeros(channels), np.ones(channels))
    return moments
