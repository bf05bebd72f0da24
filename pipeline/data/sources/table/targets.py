"""Targets of a table: numbers, classes, or truth values."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.config.own_datasets import TableConfig
from pipeline.data.dataset import Field
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.table.columns import MOST_CATEGORIES, Column
from pipeline.errors import UserError
from pipeline.tasks import Task

TRUTHS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("0", "1"))
SMALL, LARGE = 0.01, 100.0  # standard deviations of a target that need no note
# The task of a field, if none is chosen; the first that a table has decides.
TASK_OF_TARGETS = {"target": "regression", "label": "classification", "labels": "multilabel"}


def check_targets(targets: Sequence[Column]) -> None:
    """Refuse categories other than truth values among several targets."""
    for column in targets:
        if len(targets) > 1 and column.is_category and not has_truths(column):
            problem = "it has categories, and several targets must all be numbers or truth values"
            hint = f"Set dataset.targets=[{column.name}], or leave it out."
            raise UserError("dataset.targets", column.name, problem=problem, hint=hint)


def has_truths(column: Column) -> bool:
    """Tell whether a column of categories has two: words for false and true, in this order."""
    return tuple(text.lower() for text in column.categories) in TRUTHS


def make_targets(
    values: Mapping[str, np.ndarray],
    targets: Sequence[Column],
    train: np.ndarray,
    config: TableConfig,
) -> tuple[Arrays, list[str]]:
    """Make the fields that targets can be, whatever the task, and the names of the classes.

    Args:
        values: the codes of categories or the numbers of each column, [n].
        targets: the columns, in the order of `dataset.targets`.
        train: bool [n], which rows are for training.
        config: for errors.

    Returns:
        `target`: float64 [n, targets], if all are numbers; `label`: int64 [n], if there is one, of categories
        or of at most 1,000 different whole numbers; `labels`: uint8 [n, targets], if all are truth values.

    Raises:
        UserError: a target is constant, or a class has no row of training.
    """
    about = f"[{', '.join(config.targets)}]"
    for column in targets:
        check_values(values[column.name][train], column, len(targets), about)
    made: Arrays = {}
    stacked = np.stack([values[column.name] for column in targets], axis=1)
    numbers = [column for column in targets if not column.is_category]
    others = [column for column in numbers if not np.isin(values[column.name], (0, 1)).all()]
    if not others and all(has_truths(column) for column in targets if column.is_category):
        made["labels"] = stacked.astype(np.uint8)
    elif 0 < len(numbers) < len(targets):
        problem = f"{others[0].name} has numbers other than 0 and 1, beside truth values"
        raise UserError("dataset.targets", about, problem=problem)
    if len(numbers) == len(targets):
        made["target"] = stacked
    if len(targets) > 1:
        return made, []
    if not numbers:
        return made | {"label": stacked[:, 0].astype(np.int64)}, targets[0].categories
    found, label = np.unique(stacked[:, 0], return_inverse=True)
    if len(found) > MOST_CATEGORIES or (found != np.round(found)).any():
        return made, []
    return made | {"label": label.astype(np.int64)}, [f"{value:.0f}" for value in found]


def check_values(values: np.ndarray, column: Column, count: int, about: str) -> None:
    """Refuse a target that is constant in the rows of training, and a class without such a row."""
    if not column.is_category or count > 1:
        if (values == values[0]).all():
            only = column.categories[int(values[0])] if column.is_category else f"{values[0]:g}"
            problem = f"{column.name} is {only} in all rows of training"
            raise UserError("dataset.targets", about, problem=problem)
        return
    counts = np.bincount(values, minlength=len(column.values))
    if np.count_nonzero(counts) < 2:
        only = column.categories[int(counts.argmax())]
        problem = f"all rows of training are of one class: {only}"
        raise UserError("dataset.targets", about, problem=problem)
    if not counts.all():
        problem = f"the class {column.categories[int(counts.argmin())]} has no row of training"
        raise UserError("dataset.targets", about, problem=problem)


def target_notes(
    targets: Mapping[str, Field], are_numbers: bool, train: np.ndarray, config: TableConfig
) -> list[str]:
    """Return warnings about targets of an unusual scale, and about numbers that are hardly classes.

    Args:
        targets: the fields that the task uses.
        are_numbers: whether the columns hold numbers.
        train: rows of training.
        config: for the names of the columns.
    """
    notes = []
    if "target" in targets:
        deviations = np.std(np.asarray(targets["target"])[train], axis=0)
        for name, deviation in zip(config.targets, deviations, strict=True):
            if not SMALL <= deviation <= LARGE:
                notes.append(
                    f"{name}, a target, has a standard deviation of {deviation:.3g}, and targets stay in "
                    "their units: if it is not learned, divide the column by this number"
                )
    elif "label" in targets and are_numbers:
        counts = np.unique(np.asarray(targets["label"]), return_counts=True)[1]
        if 2 * np.count_nonzero(counts == 1) > len(counts):
            notes.append(
                f"{len(counts)} classes in {counts.sum()} rows, most with one sample: "
                "did you mean task=regression?"
            )
    return notes


def used_targets(arrays: Arrays, task: Task | None) -> list[str]:
    """Return the fields among those of `make_targets` that a task names, or else that of the table's task."""
    there = [name for name in TASK_OF_TARGETS if name in arrays]
    wanted = [name for name in there if task is not None and task.names(name)]
    return wanted or there[:1]
