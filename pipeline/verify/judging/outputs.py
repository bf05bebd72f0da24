"""Outputs of two models, matched."""

from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.judging.case import Case


def match_outputs(case: Case) -> None:
    """Match the outputs of both sides; an output that one side alone has is told, and left out."""
    left, right = (trace.outputs for trace in case.evaluation)
    if others := [path for path in left if path in right and left[path].size != right[path].size]:
        raise _other_outputs(left, right, f"the sizes of {', '.join(others)} differ")
    try:
        case.checker.match_outputs(left, right)
    except ValueError as error:
        raise _other_outputs(left, right, str(error)) from None
    if not case.checker.layouts:
        raise _other_outputs(left, right, "no array of the one fits one of the other")
    theirs = {other for other, _ in case.checker.layouts.values()}
    for side, outputs, known in (
        ("left", left, case.checker.layouts),
        ("right", right, theirs),
    ):
        if more := [path for path in outputs if path not in known]:
            case.alone.append(f"{side} alone returns {', '.join(more)}")
            case.verdict.notes.append(f"{case.alone[-1]}: not compared")


def _other_outputs(left: Arrays, right: Arrays, problem: str) -> UserError:
    told = f"left returns {_shapes(left)}; right returns {_shapes(right)}"
    hint = "Compare what both return: a function can return a model whose call picks it."
    return UserError("outputs", told, problem=problem, hint=hint)


def _shapes(outputs: Arrays) -> str:
    return ", ".join(f"{p} {list(array.shape)}" for p, array in outputs.items()) or "no array"
