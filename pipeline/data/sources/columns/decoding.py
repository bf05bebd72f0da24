"""Fields made of the columns of a data set, batch by batch, in files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.column_datasets import ColumnsConfig
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.columns.column import Column, ColumnTable, Kind
from pipeline.data.sources.columns.field_makers import Maker, maker_of
from pipeline.data.sources.columns.field_plan import FieldPlan, Wanted, plan_fields
from pipeline.data.sources.columns.pixels import MixedColours
from pipeline.data.sources.columns.stored_pixels import StoredPixels, stored_shorter
from pipeline.data.sources.folder.label_table import by_number_or_name
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError

ABOUT = "about"  # name of the array with JSON
MOST_CLASSES = 1000  # different texts of a target
# Names of splits in libraries.
USUAL = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev", "validate"),
    "test": ("test", "testing"),
}


def decode(table: ColumnTable, config: ColumnsConfig, wanted: Wanted, scratch: Path) -> Arrays:
    """Read a data set, and return its fields as arrays that are mapped from files in `scratch`.

    Returns:
        `SPLIT.FIELD` [n, …] for each split and field, and `about`: JSON with the `classes` and the `sizes` of
        fields of integers, where they are known.

    Raises:
        UserError: columns or splits are not there, or hold what cannot be a field.
    """
    splits = find_splits(table, config)
    plans = plan_fields(table, config, wanted)
    texts = {
        name: classes_of(table, name, [*splits.values()])
        for plan in plans
        for name in plan.columns
        if table.columns[name].kind is Kind.text
    }
    lists = {plan.columns[0] for plan in plans if plan.form == "sequence"}
    many = {plan.columns[0] for plan in plans if plan.form == "classes_in_lists"}
    longest, highest = scan_lists(table, lists, many, [*splits.values()])
    shorter = stored_shorter(config)
    kept = [plan for plan in plans if shorter is not None and plan.form == "pixels"]
    if shorter is not None:
        check_kept(kept, plans, config)
    about = described(plans, table.columns, texts) | {"stored": [plan.name for plan in kept]}
    channels = None
    while True:
        makers = {
            plan.name: maker_of(plan, table.columns, config, texts, longest, highest, channels)
            for plan in plans
            if plan not in kept
        }
        try:
            arrays = {}
            for split, there in splits.items():
                images = {
                    plan.name: StoredPixels(
                        plan.columns[0], shorter, scratch / f"{split}.{plan.name}", config.workers
                    )
                    for plan in kept
                    if shorter is not None
                }
                made = written(table, there, plans, makers, images, scratch / split)
                arrays |= {f"{split}.{field}": array for field, array in made.items()}
        except MixedColours:
            channels = 3
            continue
        return arrays | {ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}


def find_splits(table: ColumnTable, config: ColumnsConfig) -> dict[str, str]:
    """Return the table's names of train, and of val and test where it has them."""
    there = ", ".join(table.counts) or "none"
    for split, name in config.splits.items():
        if split not in SPLITS:
            raise UserError("dataset.splits", split, "names for train, val or test")
        if name not in table.counts:
            problem = f"the data set has no split {name}, only {there}"
            raise UserError("dataset.splits", f"{{{split}:{name}}}", problem=problem)
    found = dict(config.splits)
    if not found:
        for split, names in USUAL.items():
            if there_is := [name for name in names if name in table.counts]:
                found[split] = there_is[0]
    if "train" not in found and len(table.counts) == 1 and not config.splits:
        found = {"train": next(iter(table.counts))}
    if "train" not in found:
        problem = f"the data set has no split train, only {there}"
        raise UserError(
            "dataset.splits", "{}", problem=problem, hint="Set dataset.splits={train:NAME}."
        )
    if empty := next((name for name in found.values() if not table.counts[name]), None):
        raise UserError("dataset.splits", f"{found}", problem=f"the split {empty} has no rows")
    return {split: found[split] for split in SPLITS if split in found}


def classes_of(table: ColumnTable, name: str, splits: Sequence[str]) -> list[str]:
    """Return the different texts of a column."""
    found: set[str] = set()
    for split in splits:
        for batch in table.batches(split, [name]):
            found |= set(batch[name])
            if len(found) > MOST_CLASSES:
                problem = (
                    f"it has more than {MOST_CLASSES:,} different texts, such as {min(found)!r}"
                )
                raise UserError("dataset.targets", name, problem=problem)
    return sorted(found, key=by_number_or_name)


def scan_lists(
    table: ColumnTable, lists: set[str], many: set[str], splits: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the longest list in each column of `lists`, and the highest integer in those of `many`."""
    longest, highest = dict.fromkeys(lists, 1), dict.fromkeys(many, 0)
    for split in splits if lists | many else ():
        for batch in table.batches(split, [*lists, *many]):
            for name in lists:
                longest[name] = max(longest[name], int(batch[name].lengths.max(initial=0)))
            for name in many:
                highest[name] = max(highest[name], int(batch[name].values.max(initial=0)))
    return longest, highest


def described(
    plans: Sequence[FieldPlan], columns: Mapping[str, Column], texts: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return the names of the classes, and the sizes of the fields that have some."""
    classes: list[str] = []
    sizes: dict[str, int] = {}
    for plan in plans:
        names = [*columns[plan.columns[0]].classes] or texts.get(plan.columns[0], [])
        if plan.form == "classes" and names:
            sizes[plan.name] = len(names)
        if plan.name == "label":
            classes = names
        elif plan.name == "labels":
            classes = names if plan.form == "classes_in_lists" else [*plan.columns]
    return {"classes": classes, "sizes": sizes}


def written(
    table: ColumnTable,
    split: str,
    plans: Sequence[FieldPlan],
    makers: Mapping[str, Maker],
    images: Mapping[str, StoredPixels],
    stem: Path,
) -> Arrays:
    """Write the fields of a split, and return them mapped; of `images` the pixels and the records."""
    made: Arrays = {}
    names = list(dict.fromkeys(name for plan in plans for name in plan.columns))
    columns = {plan.name: plan.columns[0] for plan in plans}
    row = 0
    for batch in table.batches(split, names):
        count = 0
        for field, stored in images.items():
            count = len(batch[columns[field]])
            stored.add(batch[columns[field]], row)
        for field, make in makers.items():
            values = make(batch, row)
            if field not in made:
                shape = (table.counts[split], *values.shape[1:])
                file = stem.with_name(f"{stem.name}.{field}.npy")
                made[field] = np.lib.format.open_memmap(file, "w+", values.dtype, shape)
            count = len(values)
            made[field][row : row + count] = values
        row += count
    stored = {
        f"{field}.{name}": array
        for field, one in images.items()
        for name, array in one.arrays().items()
    }
    return made | stored


def check_kept(
    kept: Sequence[FieldPlan], plans: Sequence[FieldPlan], config: ColumnsConfig
) -> None:
    """Refuse crops without images, and with masks, which would not be cropped with them."""
    if not kept:
        held = ", ".join(name for plan in plans for name in plan.columns)
        problem = f"no column has images to crop, only {held}"
        raise UserError("dataset.scale", config.scale, problem=problem)
    if any(plan.name == "mask" for plan in plans):
        problem = "the masks of a column are not cropped with their images"
        hint = "Leave it out; or write images and masks into a folder, for dataset=folder."
        raise UserError("dataset.scale", config.scale, problem=problem, hint=hint)
