"""Half precision inside a model."""

from pipeline.verify.checks.conversions import conversions, first_half_precision, told
from pipeline.verify.judging.case import Case
from pipeline.verify.verdict import Verdict


def judge_precision(case: Case) -> Verdict | None:
    """Compare which half precisions both sides use; tell of all conversions, since float64 hides them."""
    for (side, _), trace in zip(case.sides, case.evaluation, strict=True):
        if words := told(conversions(trace)):
            case.verdict.notes.append(f"{side} converts to {words}; compared in float64")
    found = first_half_precision(case.evaluation)
    return case.part(*found) if found else None
