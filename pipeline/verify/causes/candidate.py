"""Candidates: causes to be tried, each as edits of one side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pipeline.verify.alignment.names import pattern
from pipeline.verify.causes.flow import Flow
from pipeline.verify.checks.places import SOURCES
from pipeline.verify.sides.subject import OUTPUTS, Edit


@dataclass(frozen=True)
class Candidate:
    """A cause that is tried: edits of one side after which it must agree with the other.

    `difference` says in a clause what each side does, `remedy` what is changed: the sentence becomes
    "DIFFERENCE; with REMEDY the two are the same".
    """

    name: str
    edits: tuple[Edit, ...]
    difference: str
    remedy: str
    until: int | None = (
        None  # place of the edited side that then agrees; None: the end of the region
    )


# Proposes causes of the first difference, to be tried on the first of the two sides.
Family = Callable[[Flow, Flow], Iterator[Candidate]]


def places_of(edits: tuple[Edit, ...]) -> set[int]:
    """Return all places that edits name."""
    found: set[int] = set()
    for edit in edits:
        found |= {edit.op, *edit.inputs, *edit.operands, *edit.operands.values()}
    return found - {OUTPUTS}


def spread(flow: Flow, edits: tuple[Edit, ...], same_layer: bool) -> list[tuple[Edit, ...]]:
    """Return the edits for every other place with the same operations, in the order of execution.

    Only places whose results are wrong are edited. With `same_layer`, only layers of the same name, but
    for their numbers.
    """
    ops, anchor = flow.ops, edits[0].op
    if any(edit.value is not None for edit in edits) or anchor == OUTPUTS:
        return []
    if ops[anchor].name in SOURCES:
        return _spread_array(flow, edits)
    places = sorted(place for place in places_of(edits) if ops[place].name not in SOURCES)
    fixed = {place for place in places_of(edits) if ops[place].name in SOURCES}
    found = []
    for other in range(len(ops)):
        offset = other - anchor
        if not offset or flow.found[other] == 1 or _look(flow, other) != _look(flow, anchor):
            continue
        if same_layer and pattern(ops[anchor].layer) != pattern(ops[other].layer):
            continue
        if all(
            0 <= place + offset < len(ops) and _look(flow, place) == _look(flow, place + offset)
            for place in places
        ):
            found.append(tuple(_shifted(edit, offset, fixed) for edit in edits))
        elif len(edits) == 1 and (moved := _by_chain(flow, edits[0], other)):
            found.append((moved,))
    return sorted(found, key=lambda edits: flow.rank[edits[0].op])


def _by_chain(flow: Flow, edit: Edit, other: int) -> Edit | None:
    """Apply an edit to another operation, with an input that is as many steps before it."""
    sources = [place for place in edit.inputs if place != edit.op]
    if len(sources) != 1 or edit.operands:
        return None
    steps, theirs = list(flow.chain(edit.op)), list(flow.chain(other))
    if sources[0] not in steps or steps.index(sources[0]) >= len(theirs):
        return None
    source = theirs[steps.index(sources[0])]
    if len(flow.ops[source].shape) != len(flow.ops[sources[0]].shape):
        return None
    inputs = tuple(source if place == sources[0] else other for place in edit.inputs)
    return replace(edit, op=other, inputs=inputs)


def _spread_array(flow: Flow, edits: tuple[Edit, ...]) -> list[tuple[Edit, ...]]:
    """The same for parameters: all whose name differs in numbers only."""
    name = pattern(flow.ops[edits[0].op].layer)
    return [
        (replace(edits[0], op=place),)
        for place, op in enumerate(flow.ops)
        if op.name in SOURCES and pattern(op.layer) == name and place != edits[0].op
    ]


def _look(flow: Flow, place: int) -> tuple[object, ...]:
    op = flow.ops[place]
    return op.name, op.numbers, op.function, len(op.inputs), len(op.shape)


def _shifted(edit: Edit, offset: int, fixed: set[int]) -> Edit:
    def move(place: int) -> int:
        return place if place in fixed or place == OUTPUTS else place + offset

    return replace(
        edit,
        op=move(edit.op),
        inputs=tuple(map(move, edit.inputs)),
        operands={move(old): move(new) for old, new in edit.operands.items()},
    )
