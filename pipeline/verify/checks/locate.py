"""Place and cause of a difference."""

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.causes import find_cause
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.checks.places import first_place, matched
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.verdict import Cause, First, Part

TOLERANCE = 1e-9  # of results that both sides have


def locate(
    checker: Checker, wrong: Finding, inputs: tuple[Inputs, Inputs]
) -> tuple[First, Cause | None]:
    """Name the first place where the two part, by both its names, and its likely cause."""
    first = _place(checker, wrong, inputs)
    return first, find_cause(checker, wrong, inputs)


def _place(checker: Checker, wrong: Finding, inputs: tuple[Inputs, Inputs]) -> First:
    if wrong.part not in (Part.forward, Part.training, Part.loss):
        other = ", ".join(counterparts(checker.mapping).get(wrong.name, [])) or "nothing"
        return First(wrong.part, wrong.name, other, wrong.value, wrong.step)
    traces = (
        checker.left.trace(inputs[0], wrong.training),
        checker.right.trace(inputs[1], wrong.training),
    )
    found = matched(*traces, TOLERANCE), matched(*traces[::-1], TOLERANCE)
    outputs = [wrong.name], [checker.layouts[wrong.name][0]]
    owners = checker.mapping.left, checker.mapping.right
    left, right = (first_place(*side) for side in zip(traces, found, outputs, owners, strict=True))
    return First(
        wrong.part,
        (left.name if left else "") or wrong.name,
        (right.name if right else "") or outputs[1][0],
        wrong.value,
        left_source=left.source if left else "",
        right_source=right.source if right else "",
    )


def counterparts(mapping: Mapping) -> dict[str, list[str]]:
    """Return the right arrays that share elements with each left one."""
    found: dict[str, list[str]] = {}
    for index, array in enumerate(mapping.right.arrays):
        sources = mapping.source[mapping.right.elements(index)]
        for name in mapping.left.names(sources[sources >= 0]):
            found.setdefault(name, []).append(array.name)
    return found
