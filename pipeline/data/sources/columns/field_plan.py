"""Fields of a batch that the columns of a data set become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.checks.suggestions import nearest
from pipeline.config.column_datasets import ColumnsConfig
from pipeline.console import say_line
from pipeline.data.sources.arrays.named_arrays import TASK_OF_FIELD
from pipeline.data.sources.columns.column import Column, ColumnTable, Kind
from pipeline.errors import UserError
from pipeline.tasks import TARGETS

Wanted = frozenset[str] | None  # fields that the task names; None: the columns tell the task

TEXTS = "Texts become tokens with the map() of the library."
USABLE = (Kind.number, Kind.classes, Kind.image, Kind.sequence)


@dataclass(frozen=True)
class FieldPlan:
    """A field, and the columns that it is made of.

    `form` is one of numbers, classes, pixels, mask, sequence, truths (a column of 0 and 1 for each) and
    classes_in_lists (a column of 0 and 1 for each class).
    """

    name: str
    columns: tuple[str, ...]
    form: str


def plan_fields(table: ColumnTable, config: ColumnsConfig, wanted: Wanted) -> list[FieldPlan]:
    """Plan the fields: those of `dataset.columns` for the model, and those of `dataset.targets`.

    `wanted` are the fields that the task names; None: the columns tell the task.

    Raises:
        UserError: there is no such column, it holds what no model takes, or no column is left.
    """
    targets = target_names(table, config, wanted)
    columns = input_names(table, config, targets)
    named = [
        name
        for name in (*columns, *targets)
        if wanted is not None and name in wanted and name not in TASK_OF_FIELD
    ]
    plans = [own_field(name, table.columns[name]) for name in named]
    rest = {name: table.columns[name] for name in targets if name not in named}
    others = {name: table.columns[name] for name in columns if name not in named}
    made = target_fields(rest, wanted or frozenset(), has_lists=any_lists(others))
    is_translated = any(plan.form == "sequence" and plan.name == "target" for plan in made)
    plans += [*input_fields(others, "source" if is_translated else "tokens"), *made]
    fields = [plan.name for plan in plans]
    if twice := next((name for name in fields if fields.count(name) > 1), None):
        both = [name for plan in plans if plan.name == twice for name in plan.columns]
        problem = f"the columns {', '.join(both)} would both be the field {twice}"
        raise UserError(
            "dataset.columns", shown(columns), problem=problem, hint="Name one of them."
        )
    return plans


def target_names(table: ColumnTable, config: ColumnsConfig, wanted: Wanted) -> list[str]:
    """Return `dataset.targets`, or the library's, or the columns that are named as targets are."""
    if config.targets is not None:
        for name in config.targets:
            require_there("dataset.targets", name, table)
        return list(config.targets)
    if table.targets:
        return list(table.targets)
    found = [name for name in table.columns if name in TARGETS]
    return [name for name in found if wanted is not None and name in wanted] or found


def input_names(table: ColumnTable, config: ColumnsConfig, targets: Sequence[str]) -> list[str]:
    """Return `dataset.columns`, or all columns that a model can take; refuse one that it cannot."""
    if config.columns is not None:
        for name in config.columns:
            require_there("dataset.columns", name, table)
            if name in targets:
                problem = "it is a column of dataset.targets, too"
                raise UserError("dataset.columns", name, problem=problem)
            if table.columns[name].kind not in USABLE:
                raise unusable("dataset.columns", name, table.columns[name])
        return list(config.columns)
    rest = {name: column for name, column in table.columns.items() if name not in targets}
    found = [name for name, column in rest.items() if column.kind in USABLE]
    if not found:
        held = ", ".join(f"{name} ({column.about})" for name, column in rest.items()) or "nothing"
        problem = f"no column is left for the model: beside {shown(targets)} there is {held}"
        hint = f"Numbers, images and lists of integers can be. {TEXTS}"
        raise UserError("dataset.columns", "null", problem=problem, hint=hint)
    if unused := [name for name in rest if name not in found]:
        say_line(f"columns that no model takes are left out: {', '.join(unused)}")
    return found


def require_there(key: str, name: str, table: ColumnTable) -> None:
    """Refuse a name that is no column."""
    if name not in table.columns:
        close = nearest(name, list(table.columns))
        problem = f"there is no such column, only {', '.join(table.columns)}"
        raise UserError(key, name, problem=problem, hint=f"Did you mean {close}?" if close else "")


def own_field(name: str, column: Column) -> FieldPlan:
    """Plan a field with the name of its column."""
    forms = {Kind.classes: "classes", Kind.text: "classes", Kind.image: "pixels"}
    forms |= {Kind.sequence: "sequence", Kind.number: "numbers"}
    if column.kind not in forms:
        raise unusable("task", name, column)
    return FieldPlan(name, (name,), forms[column.kind])


def any_lists(columns: Mapping[str, Column]) -> bool:
    """Tell whether a column has lists of integers."""
    return any(column.kind is Kind.sequence for column in columns.values())


def input_fields(columns: Mapping[str, Column], tokens: str) -> list[FieldPlan]:
    """Plan the fields of a model: an image, tokens under a given name, and numbers side by side.

    Several of one kind keep the names of their columns.
    """

    def is_picture(column: Column) -> bool:
        pixels = column.kind is Kind.number and len(column.shape) == 3
        return column.kind is Kind.image or pixels

    plans: list[FieldPlan] = []
    pictures = [name for name, column in columns.items() if is_picture(column)]
    lists = [name for name, column in columns.items() if column.kind is Kind.sequence]
    for names, field in ((pictures, "image"), (lists, tokens)):
        for name in names:
            form = own_field(name, columns[name]).form
            plans.append(FieldPlan(field if len(names) == 1 else name, (name,), form))
    rest = {name: c for name, c in columns.items() if name not in (*pictures, *lists)}
    flat = [n for n, c in rest.items() if len(c.shape) < 2 and c.kind is Kind.number]
    if flat:
        plans.append(FieldPlan("features", tuple(flat), "numbers"))
    return plans + [own_field(name, column) for name, column in rest.items() if name not in flat]


def target_fields(
    columns: Mapping[str, Column], wanted: frozenset[str], has_lists: bool
) -> list[FieldPlan]:
    """Plan the field of the targets; `has_lists` tells whether the model takes lists of integers."""
    if not columns:
        return []
    if len(columns) > 1:
        field, form = target_of_several(columns, wanted)
    else:
        [(name, column)] = columns.items()
        field, form = target_of_one(name, column, wanted, has_lists)
    return [FieldPlan(field, tuple(columns), form)]


def target_of_several(columns: Mapping[str, Column], wanted: frozenset[str]) -> tuple[str, str]:
    """Return the name and form of the field of several targets."""
    are_numbers = all(column.kind is Kind.number for column in columns.values())
    are_truths = all(column.is_truth for column in columns.values())
    if are_truths and not (are_numbers and "target" in wanted):
        return "labels", "truths"
    if are_numbers:
        return ("labels", "truths") if "labels" in wanted else ("target", "numbers")
    name = next(n for n, c in columns.items() if c.kind is not Kind.number and not c.is_truth)
    held = columns[name].about
    problem = f"it has {held}, and several targets must all be numbers or truth values"
    hint = f"Set dataset.targets=[{name}]."
    raise UserError("dataset.targets", name, problem=problem, hint=hint)


def target_of_one(
    name: str, column: Column, wanted: frozenset[str], has_lists: bool
) -> tuple[str, str]:
    """Return the name and form of the field of one target."""
    if column.kind is Kind.image:
        return "mask", "mask"
    if column.kind is Kind.sequence:
        if column.classes or "labels" in wanted or not has_lists:
            return "labels", "classes_in_lists"
        return "next" if "next" in wanted else "target", "sequence"
    if column.kind is Kind.other:
        raise unusable("dataset.targets", name, column)
    if column.kind is not Kind.number:
        return ("labels", "truths") if "labels" in wanted else ("label", "classes")
    if column.is_float or "target" in wanted:
        return ("labels", "truths") if "labels" in wanted else ("target", "numbers")
    if len(column.shape) == 2:
        return "mask", "numbers"
    return ("labels", "truths") if column.shape or "labels" in wanted else ("label", "classes")


def unusable(key: str, name: str, column: Column) -> UserError:
    """Make the error for a column that cannot be a field."""
    problem = f"this column has {column.about}, which no model takes"
    hint = "Leave it out." if column.kind is Kind.other else TEXTS
    return UserError(key, name, problem=problem, hint=hint)


def shown(names: Sequence[str]) -> str:
    """Return names as the command line takes them."""
    return f"[{', '.join(names)}]"
