"""Check of two models: from their alignment, over passes and steps, to the verdict."""

from dataclasses import asdict
from functools import partial

from pipeline.verify.alignment.align import Aligner, Alignment
from pipeline.verify.both import both
from pipeline.verify.checks.checker import Checker
from pipeline.verify.checks.finite import require_finite
from pipeline.verify.checks.leftovers import find_leftovers
from pipeline.verify.checks.narrow_noise import NarrowNoise
from pipeline.verify.checks.randomness import unrepeatable
from pipeline.verify.checks.shared_tables import SharedTables
from pipeline.verify.judging.case import Case, Request
from pipeline.verify.judging.details import add_details, note_float32
from pipeline.verify.judging.draws import find_unfollowed, judge_draws
from pipeline.verify.judging.magnitudes import judge_magnitudes
from pipeline.verify.judging.outputs import match_outputs
from pipeline.verify.judging.padding import note_padding
from pipeline.verify.judging.parameters import judge_leftovers, judge_names
from pipeline.verify.judging.passes import judge_passes
from pipeline.verify.judging.precision import judge_precision
from pipeline.verify.judging.sizes import judge_sizes
from pipeline.verify.judging.steps import judge_steps
from pipeline.verify.judging.weights import read_weights
from pipeline.verify.names.row_search import find_rows
from pipeline.verify.sides.outputs import LOSS
from pipeline.verify.sides.subject import Subject
from pipeline.verify.verdict import Answer, Verdict

# In the order of cause and effect: the first that gives a verdict decides.
STAGES = (
    judge_leftovers, judge_names, judge_passes, judge_precision, judge_draws, judge_sizes,
    judge_magnitudes, judge_steps,
)  # fmt: skip


def judge(left: Subject, right: Subject, request: Request) -> Verdict:
    """Tell if two models are the same, and if not, where they part.

    Raises:
        UserError: a side gives no finite outputs, or the outputs have different structures.
    """
    case = Case(left, right, request)
    if reason := _prepare(case):
        return case.abstain(reason)
    found = (stage(case) for stage in STAGES)
    verdict = next((verdict for verdict in found if verdict), None) or _same(case)
    if verdict.verdict is Answer.same:
        note_padding(case)
    note_float32(case)
    add_details(case)
    return verdict


def judge_alignment(left: Subject, right: Subject, request: Request) -> tuple[Case, Verdict | None]:
    """Align two models; return the case, and a verdict if their parameters do not belong together for sure.

    Raises:
        UserError: a side gives no finite outputs, or the outputs have different structures.
    """
    case = Case(left, right, request)
    if reason := _prepare(case):
        return case, case.abstain(reason)
    return case, judge_leftovers(case) or judge_names(case)


def _prepare(case: Case) -> str:
    """Align the two and record their passes; return why they cannot be judged, or nothing."""
    reasons = both(
        partial(unrepeatable, "left", case.left, case.inputs[0]),
        partial(unrepeatable, "right", case.right, case.inputs[1]),
    )
    if reason := reasons[0] or reasons[1]:
        return reason
    case.alignment = _align(case)
    case.checker = Checker(case.left, case.right, case.alignment)
    read_weights(case)
    case.checker.load(case.alignment.values)
    case.evaluation, case.training = case.trace(case.inputs, False), case.trace(case.inputs, True)
    for side, trace, inputs in zip(case.sides, case.training, case.inputs, strict=True):
        require_finite(*side, trace, inputs, training=True)
    match_outputs(case)
    if reason := find_unfollowed(case):
        return reason
    case.leftovers = find_leftovers(case.checker, case.inputs)
    case.narrow = NarrowNoise(case.checker, case.evaluation)
    case.tables = SharedTables(case.left, case.right, case.narrow.tables)
    if case.narrow.is_there:
        case.checker.right = case.tables
    return ""


def _align(case: Case) -> Alignment:
    """Align the two, but for what the user has named."""
    arrays = case.left.description.arrays, case.right.description.arrays
    fixed = case.request.names.mapping(*arrays) if case.request.names else None
    aligner = Aligner(case.left, case.right, case.inputs, case.request.seeds[0], fixed)
    alignment = aligner.align()
    case.verdict.alignment = [asdict(row) for row in find_rows(alignment.mapping)]
    return alignment


def _same(case: Case) -> Verdict:
    """Judge that the two are the same."""
    largest, steps = max(case.verdict.differences.values()), case.verdict.checked["steps"]
    after = (
        f", and the weights over {steps} step{'s' * (steps != 1)} of {case.request.optimizer.name}"
        if steps
        else ""
    )
    loss = "loss, " if LOSS in case.checker.layouts else ""
    same = f"the same in what both return ({'; '.join(case.alone)})" if case.alone else "the same"
    case.verdict.reason = (
        f"{same}: outputs, {loss}gradients and buffers{after} agree to {max(largest, 1e-16):.0e} "
        f"with {len(case.request.seeds)} seed{'s' * (len(case.request.seeds) > 1)}"
    )
    return case.verdict
