"""Larger weights and inputs, at which bounds take effect: ReLU6, a clipped value, a capped logit."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from pipeline.errors import UserError
from pipeline.verify.checks.checker import Finding
from pipeline.verify.checks.differences import MARGIN, MOST_NOISE
from pipeline.verify.judging.case import Case
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.verdict import Verdict

FACTOR = 16.0


def judge_magnitudes(case: Case) -> Verdict | None:
    """Compare passes in evaluation with parameters and inputs that are larger by `FACTOR`.

    A bound makes a large difference; smaller ones are those of functions that libraries approximate far
    from zero. Where rounding makes one, as in the sine of a large number, nothing is judged.
    """
    seed, own = case.request.seeds[-1], case.left.values()
    drawn = case.request.inputs.draw(seed)
    inputs = enlarged(drawn[0]), enlarged(drawn[1])
    learned = case.checker.trained[0]
    case.checker.load({n: a * FACTOR if n in learned else a for n, a in own.items()})
    try:
        found = list(case.checker.compare_pass(inputs, False, seed))
        stays_finite = all(np.isfinite(finding.value) for finding in found)
    except UserError:
        stays_finite, found = False, []
    if not stays_finite:
        case.verdict.notes.append("not compared with larger numbers: a side does not stay finite")
    verdict = _judge_findings(case, found, inputs, seed) if stays_finite else None
    if verdict is None:
        case.checker.load(own)  # otherwise they show the difference
    return verdict


def enlarged(inputs: Mapping[str, np.ndarray]) -> Inputs:
    """Return inputs with the floating ones multiplied by `FACTOR`."""
    return {
        name: array * FACTOR if np.issubdtype(array.dtype, np.floating) else array
        for name, array in inputs.items()
    }


def _judge_findings(
    case: Case, found: Sequence[Finding], inputs: tuple[Inputs, Inputs], seed: int
) -> Verdict | None:
    if all(finding.value <= MOST_NOISE for finding in found):
        return None
    noise = case.checker.noise_of_pass(inputs[0], False, seed)

    def is_wrong(finding: Finding) -> bool:
        bar = MARGIN * noise.get((finding.part, finding.name), 0.0)
        return bar <= MOST_NOISE < finding.value

    wrong = [finding for finding in found if is_wrong(finding)]
    verdict = case.judge_wrong(wrong, inputs, partial(case.narrow.of_pass, inputs, False, seed))
    if verdict:
        case.note(wrong)
        case.verdict.notes.append(f"the difference shows with numbers {FACTOR:.0f} times as large")
    return verdict
