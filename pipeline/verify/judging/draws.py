"""Random numbers of both models in training."""

from functools import partial

from pipeline.verify.both import both
from pipeline.verify.checks.draws import (
    describe,
    first_other_rate,
    first_other_size,
    rates,
    shared_by_samples,
)
from pipeline.verify.checks.randomness import unfollowed, unknown_draws
from pipeline.verify.judging.case import Case
from pipeline.verify.verdict import Verdict


def find_unfollowed(case: Case) -> str:
    """Return why random numbers in training cannot be the same on both sides; nothing if they can."""
    if reason := unknown_draws(case.training):
        return reason
    inputs, training = case.inputs, case.training
    reasons = both(
        partial(unfollowed, "left", case.left, inputs[0], training[0]),
        partial(unfollowed, "right", case.right, inputs[1], training[1]),
    )
    return reasons[0] or reasons[1]


def judge_draws(case: Case) -> Verdict | None:
    """Compare the rates of dropout, which a norm behind it could hide from the outputs."""
    counted = [rates(trace) for trace in case.training]
    if found := first_other_rate(case.training) or first_other_size(case.training):
        return case.part(*found)
    if shared := shared_by_samples(case.training):
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        case.verdict.notes.append(f"a mask that samples or heads share: {shared[0]}{more}")
    if counted[0] != counted[1]:
        words = f"{describe(counted[0])} (left), {describe(counted[1])} (right)"
        case.verdict.notes.append(f"random draws in training: {words}")
    return None
