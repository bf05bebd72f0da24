"""Inputs of other sizes."""

from functools import partial

import numpy as np

from pipeline.verify.both import both
from pipeline.verify.checks.checker import Finding
from pipeline.verify.checks.differences import BAR, Layout, relative
from pipeline.verify.judging.case import Case
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.verdict import Verdict, part_of_output


def judge_sizes(case: Case) -> Verdict | None:
    """Compare the outputs for inputs of other sizes, where both sides take them."""
    for name, variant in case.request.inputs.variants().items():
        inputs = variant.draw(case.request.seeds[0])
        try:
            found = _compare_outputs(case, inputs)
        except Exception:  # any: that a side does not take a size is no difference
            case.verdict.notes.append(f"not compared with {name}: a side does not take it")
            continue
        case.sizes.append(name)
        measure = partial(case.narrow.of_outputs, inputs)
        repeat = partial(_compare_outputs, case, inputs)
        if verdict := case.judge_wrong(found, inputs, measure, repeat):
            case.verdict.notes.append(f"the difference shows with {name}")
            return verdict
    return None


def _compare_outputs(case: Case, inputs: tuple[Inputs, Inputs]) -> list[Finding]:
    """Return the differences of the outputs in evaluation that are no rounding."""
    left, right = both(
        partial(case.checker.left.trace, inputs[0], False),
        partial(case.checker.right.trace, inputs[1], False),
    )
    pairs = {path: other for path, (other, _) in case.checker.layouts.items()}
    if not all(np.isfinite(left.outputs[path]).all() for path in pairs):
        raise ValueError("outputs that are not finite")  # rows behind a table's end, in JAX
    found = (
        Finding(
            part_of_output(ours, False),
            ours,
            _difference(left.outputs[ours], right.outputs[theirs]),
        )
        for ours, theirs in pairs.items()
    )
    return [finding for finding in found if finding.value > BAR]


def _difference(left: np.ndarray, right: np.ndarray) -> float:
    try:
        return relative(np.squeeze(left), Layout(left, right).to_left(right))
    except ValueError:
        return np.inf
