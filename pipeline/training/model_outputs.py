"""The outputs of a model, as a loss takes them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from pipeline.config.models import ModelConfig, OwnConfig
from pipeline.errors import UserError
from pipeline.tasks import Classification, OwnTask, Shapes, Task

LOGITS = "logits"
MOST_NAMED = 8


def pick_output(outputs: object, model: ModelConfig, task: Task) -> object:
    """Return the entry of a model's outputs that a loss takes; outputs that have no entries as they are.

    It is `model.output`; without it a user's own loss takes all, others the logits, or the only entry.

    Raises:
        UserError: there is no such entry.
    """
    asked = model.output if isinstance(model, OwnConfig) else None
    if hasattr(outputs, "shape") or (asked is None and isinstance(task, OwnTask)):
        return outputs
    entries = entries_of(outputs)
    if asked is not None:
        if asked not in entries:
            has = f"it has {_listed(entries)}" if entries else "its outputs have no entries"
            raise UserError(
                "model.output", asked, problem=f"the model returns no such entry; {has}"
            )
        return entries[asked]
    if LOGITS in entries:
        return entries[LOGITS]
    return next(iter(entries.values())) if len(entries) == 1 else outputs


def entries_of(outputs: object) -> dict[str, object]:
    """Return the entries of a mapping, a dataclass, a tuple or a list by name or place; None is none."""
    if isinstance(outputs, Mapping):  # before dataclasses: Hugging Face's outputs are both
        found = {str(name): value for name, value in outputs.items()}
    elif is_dataclass(outputs) and not isinstance(outputs, type):
        found = {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    elif isinstance(outputs, tuple | list):
        names = getattr(outputs, "_fields", range(len(outputs)))
        found = {str(name): value for name, value in zip(names, outputs, strict=True)}
    else:
        found = {}
    return {name: value for name, value in found.items() if value is not None}


def dataclasses_in(outputs: object) -> Iterator[object]:
    """Yield the outputs and their entries that are dataclasses: a framework may not know how to look in."""
    if hasattr(outputs, "shape"):
        return
    if is_dataclass(outputs):
        yield outputs
    for entry in entries_of(outputs).values():
        yield from dataclasses_in(entry)


def check_outputs(
    outputs: object, shapes: Shapes, task: Task, classes: int | None = None, model: str = "own"
) -> None:
    """Refuse outputs of a model that are no array of the shape that its task needs for a batch.

    `classes` is their number, if there are any: a classifier has as many outputs, others may be padded.
    """
    sizes = task.outputs_shape(shapes)
    if sizes is None:
        return
    shape = tuple(getattr(outputs, "shape", ()))
    fits = all(size in (got, str(size)) for size, got in zip(sizes, shape, strict=False))
    if not (shape and len(shape) == len(sizes) and fits):
        wanted = f"an array [{', '.join(map(str, sizes))}]"
        entries = {} if shape else entries_of(outputs)
        got = f"[{', '.join(map(str, shape))}]" if shape else f"a {type(outputs).__name__}"
        got += f" with {_listed(entries)}" if entries else ""
        problem = f"for this batch it returns {got}, and the loss needs {wanted}"
        hint = (
            "Return the logits (or predicted values) alone, one row for each sample. "
            "A module of Equinox is called on one sample at a time."
        )
        if entries:
            hint = (
                f"Set model.output to the entry that the loss takes, such as {next(iter(entries))}."
            )
        raise UserError("model", model, problem=problem, hint=hint)
    if classes is None or sizes[-1] != "classes":
        return
    if shape[-1] < classes or (isinstance(task, Classification) and shape[-1] > classes):
        problem = f"it returns logits of {shape[-1]} classes, and the data set has {classes}"
        hint = "Give its last layer as many as its argument `outputs` says."
        raise UserError("model", model, problem=problem, hint=hint)


def _listed(entries: Mapping[str, object]) -> str:
    shown = [
        f"{name} {list(shape)}" if (shape := getattr(value, "shape", None)) is not None else name
        for name, value in entries.items()
    ]
    return ", ".join(shown[:MOST_NAMED]) + (", …" if len(shown) > MOST_NAMED else "")
