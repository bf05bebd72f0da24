"""Functions that make the values of a field of a batch of columns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config.column_datasets import ColumnsConfig
from pipeline.data.sources.columns.column import Column, Lists
from pipeline.data.sources.columns.field_plan import FieldPlan, shown
from pipeline.data.sources.columns.pixels import Pixels
from pipeline.errors import UserError

Maker = Callable[[Mapping[str, Any], int], np.ndarray]  # of the batch that begins with a row


def maker_of(
    plan: FieldPlan,
    columns: Mapping[str, Column],
    config: ColumnsConfig,
    texts: Mapping[str, list[str]],
    longest: Mapping[str, int],
    highest: Mapping[str, int],
    channels: int | None,
) -> Maker:
    """Return the function that makes a field of a batch."""
    name = plan.columns[0]
    column = columns[name]
    if plan.form in ("pixels", "mask"):
        pixels = Pixels(name, config.size, channels, plan.form == "mask")
        return lambda batch, row: pixels.batch(batch[name], row)
    if plan.form == "sequence":
        length = config.length or longest[name]
        return lambda batch, row: padded(batch[name], length, config.padding)
    if plan.form == "classes_in_lists":
        count = len(column.classes) or highest[name] + 1
        return lambda batch, row: many_hot(batch[name], count, name, row)
    if plan.form == "classes" and name in texts:
        places = {text: place for place, text in enumerate(texts[name])}
        return lambda batch, row: np.array([places[text] for text in batch[name]], np.int64)
    if plan.form == "truths":
        return lambda batch, row: truths(batch, plan.columns, row)
    if plan.form == "classes":
        return lambda batch, row: np.asarray(batch[name], np.int64)
    if len(plan.columns) == 1 and plan.name != "features":
        is_number = plan.name == "target"
        return lambda batch, row: np.asarray(batch[name], np.float64 if is_number else None)
    types = {columns[other].dtype for other in plan.columns}
    dtype = (
        np.result_type(*types) if all(kind.kind == "f" for kind in types) else np.dtype(np.float64)
    )
    return lambda batch, row: side_by_side(batch, plan.columns, dtype)


def side_by_side(batch: Mapping[str, Any], names: Sequence[str], dtype: np.dtype) -> np.ndarray:
    """Return columns of numbers beside one another: [rows, width]."""
    parts = [np.asarray(batch[name], dtype) for name in names]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def truths(batch: Mapping[str, Any], names: Sequence[str], row: int) -> np.ndarray:
    """Return columns of truth values: uint8 [rows, width], 0 or 1."""
    values = side_by_side(batch, names, np.dtype(np.float64))
    if (wrong := (values != 0) & (values != 1)).any():
        place = int(wrong.any(axis=1).argmax())
        problem = f"row {row + place} has {values[place][wrong[place]][0]:g}; labels are 0 or 1"
        raise UserError("dataset.targets", shown(names), problem=problem)
    return values.astype(np.uint8)


def padded(lists: Lists, length: int, padding: int) -> np.ndarray:
    """Return lists cut or filled to a length: [rows, length]."""
    rows, places = rows_and_places(lists)
    kept = places < length
    made = np.full((len(lists.lengths), length), padding, lists.values.dtype)
    made[rows[kept], places[kept]] = lists.values[kept]
    return made


def many_hot(lists: Lists, count: int, name: str, row: int) -> np.ndarray:
    """Return 1 for each class in a list: uint8 [rows, count]."""
    rows, _ = rows_and_places(lists)
    if (wrong := (lists.values < 0) | (lists.values >= count)).any():
        place = int(wrong.argmax())
        problem = f"row {row + int(rows[place])} has {lists.values[place]}, which is no class"
        raise UserError("dataset.targets", name, problem=problem)
    made = np.zeros((len(lists.lengths), count), np.uint8)
    made[rows, lists.values] = 1
    return made


def rows_and_places(lists: Lists) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each element, and its place in the list of that row."""
    rows = np.repeat(np.arange(len(lists.lengths)), lists.lengths)
    starts = np.cumsum(lists.lengths) - lists.lengths
    return rows, np.arange(len(lists.values)) - starts[rows]
