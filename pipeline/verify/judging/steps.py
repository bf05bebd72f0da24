"""Optimizer steps."""

from functools import partial

from pipeline.verify.checks.differences import BAR, MARGIN, MOST_NOISE
from pipeline.verify.judging.case import Case
from pipeline.verify.verdict import Verdict


def judge_steps(case: Case) -> Verdict | None:
    """Compare the weights after each of some optimizer steps."""
    seed, optimizer = case.request.seeds[0], case.request.optimizer
    batches = [case.request.inputs.draw(seed + step) for step in range(case.request.steps)]
    if not batches:
        return None
    if case.request.weights:
        case.checker.load(case.alignment.values)
    found = list(case.checker.compare_steps(batches, optimizer, seed))
    case.note(found)
    case.verdict.checked["steps"] = len(batches)
    if all(finding.value <= BAR for finding in found):
        return None
    noise = case.checker.noise_of_steps([batch[0] for batch in batches], optimizer, seed)
    wrong = [f for f in found if f.value > max(BAR, min(MOST_NOISE, MARGIN * noise[f.name]))]
    if wrong and all(f.value <= MARGIN * noise[f.name] for f in wrong):
        largest = max(wrong, key=lambda f: f.value)
        return case.abstain(
            f"rounding alone moves {largest.name} as far as the two differ after {len(batches)} steps of "
            f"{optimizer.name}, by {largest.value:.0e}: take fewer steps, or another optimizer"
        )
    measure = partial(case.narrow.of_steps, batches, optimizer, seed)
    return case.judge_wrong(wrong, batches[0], measure)
