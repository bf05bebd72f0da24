"""Forward and backward passes, in evaluation and training, from several weights."""

from collections.abc import Iterable, Sequence
from functools import partial

from pipeline.verify.alignment.draw import draw_values
from pipeline.verify.alignment.layers import find_layers
from pipeline.verify.checks.checker import Finding
from pipeline.verify.checks.differences import BAR, MARGIN, MOST_NOISE
from pipeline.verify.judging.case import Case
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.verdict import Verdict


def judge_passes(case: Case) -> Verdict | None:
    """Compare forward and backward passes, in evaluation and training, from several weights."""
    for seed in case.request.seeds:
        inputs = case.request.inputs.draw(seed)
        if seed != case.request.seeds[0]:
            _draw_values(case, seed)
        for training in (False, True):
            found = list(case.checker.compare_pass(inputs, training, seed))
            if verdict := _judge_findings(case, found, inputs, training, seed):
                return verdict
    return None


def _draw_values(case: Case, seed: int) -> None:
    mapping = case.checker.mapping
    layers = find_layers(case.training[0], mapping.left)
    values = draw_values(case.left.values(), mapping.left, layers, mapping.is_used, seed)
    case.checker.load(values)


def _judge_findings(
    case: Case,
    found: Sequence[Finding],
    inputs: tuple[Inputs, Inputs],
    training: bool,
    seed: int,
) -> Verdict | None:
    """Judge by the first difference of a pass that is no rounding, in the order of cause and effect."""
    case.note(found)
    if all(finding.value <= BAR for finding in found):
        return None
    noise = case.checker.noise_of_pass(inputs[0], training, seed)

    def above(found: Iterable[Finding]) -> list[Finding]:
        bars = {key: max(BAR, min(MOST_NOISE, MARGIN * value)) for key, value in noise.items()}
        return [f for f in found if f.value > bars.get((f.part, f.name), BAR)]

    return case.judge_wrong(
        above(found),
        inputs,
        partial(case.narrow.of_pass, inputs, training, seed),
        lambda: above(case.checker.compare_pass(inputs, training, seed)),
    )
