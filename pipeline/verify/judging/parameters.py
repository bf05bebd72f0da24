"""Parameters that one side alone has, or that do the work of others of their name."""

import numpy as np

from pipeline.verify.causes import find_cause_of_leftovers
from pipeline.verify.checks.exchanged import find_exchanged
from pipeline.verify.judging.case import Case
from pipeline.verify.verdict import First, Part, Verdict


def judge_leftovers(case: Case) -> Verdict | None:
    """Judge parameters that one side alone has."""
    case.verdict.unmatched, notes = case.leftovers.named, case.verdict.notes
    for side, names in case.leftovers.redundant.items():
        if names:
            summands = ", ".join(names)
            notes.append(f"{side} adds {summands} to what both add: held at zero in this check")
    if case.leftovers.tables:
        names = ", ".join(case.leftovers.tables)
        notes.append(f"kept as they are, since the other side holds none such: {names}")
    if case.leftovers.unused:
        notes.append(f"left out, since no output depends on it: {', '.join(case.leftovers.unused)}")
    left, right = (", ".join(case.leftovers.needed[side]) for side in ("left", "right"))
    if left and right:
        return case.abstain(f"no counterpart was found for {left} (left) and {right} (right)")
    if not left and not right:
        return None
    names = case.leftovers.needed["left"], case.leftovers.needed["right"]
    cause = find_cause_of_leftovers(case.checker, names, case.inputs)
    return case.part(First(Part.weights, left or "nothing", right or "nothing", np.inf), cause)


def judge_names(case: Case) -> Verdict | None:
    """Hold the alignment against names that are alike, but for what the user has named."""
    arrays = case.left.description.arrays, case.right.description.arrays
    fixed = case.request.names.mapping(*arrays) if case.request.names else None
    found = find_exchanged(case.checker, case.evaluation, case.inputs, fixed)
    reason = "layers whose names are alike do not do the same work"
    return case.part(*found, reason=reason) if found else None
