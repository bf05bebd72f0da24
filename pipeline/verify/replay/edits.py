"""Edits of one operation, together."""

from collections.abc import Mapping, Sequence

from pipeline.verify.sides.subject import Edit


def merged(edits: Sequence[Edit]) -> dict[int, Edit]:
    """Return one edit for each operation: a later edit changes what earlier ones have made of it."""
    found: dict[int, Edit] = {}
    for edit in edits:
        known = found.get(edit.op, Edit(edit.op))
        result = edit if edit.function or edit.value is not None else known
        found[edit.op] = Edit(
            edit.op,
            {**known.numbers, **edit.numbers},
            edit.window or known.window,
            _composed(known.operands, edit.operands),
            result.function,
            result.inputs,
            result.arguments,
            result.value,
        )
    return found


def _composed(first: Mapping[int, int], second: Mapping[int, int]) -> dict[int, int]:
    """Replace operands twice."""
    found = {old: second.get(new, new) for old, new in first.items()}
    return found | {old: new for old, new in second.items() if old not in first}


def edited_inputs(inputs: tuple[int, ...], edit: Edit) -> tuple[int, ...]:
    """Return the places that an edited operation takes."""
    if edit.value is not None:
        return ()
    own = [edit.operands.get(place, place) for place in inputs]
    if edit.function and edit.inputs:
        found = [place for place in edit.inputs if place != edit.op]
        own = found + own if edit.op in edit.inputs else found
    return tuple(dict.fromkeys(own))
