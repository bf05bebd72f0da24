"""Differences layer by layer, and what was accepted as rounding."""

import numpy as np

from pipeline.verify.blame import blame
from pipeline.verify.checks.layer_table import layer_table
from pipeline.verify.judging.case import Case
from pipeline.verify.lanes import Lanes
from pipeline.verify.verdict import Part


def add_details(case: Case) -> None:
    """Add the differences layer by layer, and those of the lanes if they are asked for."""
    gradients: dict[str, float] = {}
    for one in case.found:
        if one.part is Part.gradient:
            gradients[one.name] = max(one.value, gradients.get(one.name, 0.0))
    passes = [case.evaluation, case.training]
    if case.place and _is_other(case):
        passes.append(case.trace(*case.place))  # a later seed or another size has decided
    matches = case.alignment.matching.matches
    case.verdict.layers = layer_table(matches, case.alignment.mapping, passes, gradients)
    if case.request.lanes:
        lanes = Lanes(case.checker, case.inputs, case.request.seeds[0])
        case.verdict.lanes = lanes.compare(case.alignment.values)
        case.verdict.blame = blame(case.verdict.lanes)


def _is_other(case: Case) -> bool:
    """True if the pass that decided had other inputs than the first one."""
    first, decided = case.inputs[0], case.place[0][0] if case.place else case.inputs[0]
    return not all(np.array_equal(array, decided[name]) for name, array in first.items())


def note_float32(case: Case) -> None:
    """Tell which layers hold constants in float32: they leave more than rounding in float64."""
    accepted = case.tables.difference if case.tables.is_complete else case.narrow.accepted
    words = f": {accepted:.0e} is accepted as their rounding" if accepted else ""
    for side, layers in zip(("left", "right"), case.narrow.layers, strict=True):
        if layers:
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            names = f"{', '.join(layers[:3])}{more}"
            case.verdict.notes.append(f"{side} holds constants in float32 ({names}){words}")
