"""A user's own data, returned by a function."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.config.own_datasets import OwnDataConfig
from pipeline.data.dataset import Data
from pipeline.data.sources.arrays.named_arrays import UNKNOWN, data_of
from pipeline.data.splits import SPLITS, limit_train
from pipeline.errors import UserError
from pipeline.tasks import Task
from pipeline.user_code import import_attribute, shortened

KEY = "dataset.load"


def load(config: OwnDataConfig, task: Task | None = None) -> Data:
    """Call the user's function with `dataset.options`.

    It returns arrays by name, which are split here; or such a mapping for each of `train`, `val` and `test`;
    or a `Data`, whose splits stay as they are.

    Raises:
        UserError: there is no such function, it fails, or it returns something else.
    """
    found = call(config)
    if isinstance(found, Data):
        if config.folds is not None:
            problem = f"{config.load} returns a Data, with splits of its own"
            hint = "Return arrays by name, which can be split."
            raise UserError("dataset.folds", config.folds, problem=problem, hint=hint)
        return replace(found, train=limit_train(found.train, config))
    if not isinstance(found, Mapping) or not found:
        got = "an empty mapping" if isinstance(found, Mapping) else type(found).__name__
        raise returned(config, f"it returns {got}")
    nested = [isinstance(value, Mapping) for value in found.values()]
    if not any(nested):
        return data_of("own", {"train": arrays_of(found, config)}, config, KEY, task)
    if not all(nested) or not {"train"} <= set(found) <= set(SPLITS):
        raise returned(config, f"it returns a mapping with {', '.join(map(str, found))}")
    splits = {split: arrays_of(fields, config) for split, fields in found.items()}
    return data_of("own", splits, config, KEY, task)


def task_of(config: OwnDataConfig) -> str | None:
    """Return the name of the task that the user's data is for; None if no name of a field tells."""
    task = load(config).task
    return None if task is UNKNOWN else task.name


def call(config: OwnDataConfig) -> Any:
    """Return what the user's function returns."""
    if config.load is None:
        hint = "Set dataset.load=package.module:function."
        raise UserError(KEY, "null", "your function", hint)
    function = import_attribute(config.load, KEY)
    if not callable(function):
        raise UserError(KEY, config.load, problem="it is no function")
    try:
        return function(**config.options)
    except (Exception, SystemExit) as error:  # a user's code may raise anything, even `sys.exit()`
        if isinstance(error, UserError):
            raise
        given = ", ".join(f"{name}={value}" for name, value in config.options.items())
        hint = f"It is called as {config.load.partition(':')[2]}({given}), by dataset.options."
        raise UserError(
            KEY, config.load, problem=f"it fails: {shortened(error)}", hint=hint
        ) from error


def arrays_of(fields: Mapping[str, object], config: OwnDataConfig) -> dict[str, np.ndarray]:
    """Return fields as arrays; a list or a tensor on the CPU becomes one."""
    made = {}
    for name, field in fields.items():
        try:
            made[name] = np.asarray(field)
        except Exception as error:  # of another library, such as a tensor on a GPU
            problem = f"its {name} is a {type(field).__name__}, and no array: {shortened(error)}"
            raise returned(config, problem) from error
        if not isinstance(name, str) or not name.isidentifier():
            raise returned(config, f"it returns a field named {name!r}, which is no name")
    if not made:
        raise returned(config, "it returns a split without fields")
    return made


def returned(config: OwnDataConfig, problem: str) -> UserError:
    """Make the error for a function that returns what is no data set."""
    hint = (
        "Return arrays by name, such as {'image': …, 'label': …}, or "
        "{'train': such a mapping, 'val': …, 'test': …}."
    )
    return UserError(KEY, config.load, problem=problem, hint=hint)
