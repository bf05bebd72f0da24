"""Judgement of one recorded step, part by part in the order of cause and effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.verify.checks.differences import by_name
from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.precision import Precision
from pipeline.verify.recordings.reasons.causes import find_cause
from pipeline.verify.recordings.reasons.gradient_causes import gradient_ratio
from pipeline.verify.recordings.reasons.regression import remains
from pipeline.verify.recordings.reasons.wording import UNKNOWN, listed, reason
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Answer, Cause, First, Part

# Parts on which the steps after depend.
FOLLOWED = (Part.training, Part.loss, Part.gradient, Part.update)


@dataclass
class Judgement:
    """Judgement of a step."""

    values: dict[Part, float] = field(default_factory=dict)  # the largest difference of each part
    answer: Answer = Answer.same
    reason: str = ""  # unless they are the same
    first: First | None = None
    cause: Cause | None = None
    stop: str = ""  # why neither this step nor those after it say more
    ratio: float | None = None  # of gradients whose updates are not in it

    @property
    def followed(self) -> float:
        """The largest difference on which the steps after depend."""
        return max((value for part, value in self.values.items() if part in FOLLOWED), default=0.0)


class StepJudge:
    """Judges one step.

    Later steps start from weights that rounding has moved apart: their bar is a multiple of what differed
    before, `grown`.
    """

    def __init__(
        self, pair: StepPair, precision: Precision, grown: float, is_ordered: bool
    ) -> None:
        self.pair, self.precision, self.grown, self.is_ordered = pair, precision, grown, is_ordered
        self.bar = max(precision.bar, precision.growth * grown)
        self.judgement = Judgement()

    def judge(self) -> Judgement:
        """Return the first difference that is no rounding, with its cause."""
        pair = self.pair
        for part, fields, bar in (
            (Part.batch, pair.batch, self.precision.bar),
            (Part.training, pair.outputs, self.bar),
            (Part.loss, pair.loss, self.bar),
        ):
            if self._part_at_fields(part, fields, bar):
                return self.judgement
        if wrong := self._wrong(Part.buffers, pair.buffer_differences(), self.bar):
            self._part(Part.buffers, wrong, find_cause(Part.buffers, pair, list(wrong)))
        elif not self._judge_gradients():
            self._judge_update()
        return self.judgement

    def weights_differ(self) -> float:
        """Return the difference of the weights after the step, but for those that rounding alone moves."""
        pair = self.pair
        ours, theirs = ({n: a[n] * pair.is_told(n) for n in pair.trained} for a in pair.after)
        return max(by_name(ours, theirs).values(), default=0.0)

    def _part_at_fields(self, part: Part, fields: Sequence[FieldPair], bar: float) -> bool:
        wrong = self._wrong(part, {one.left_name: one.difference for one in fields}, bar)
        if wrong:
            at = [one for one in fields if one.left_name in wrong]
            names = {one.left_name: one.right_name for one in fields}
            self._part(part, wrong, find_cause(part, self.pair, list(wrong)), names, at)
        return bool(wrong)

    def _judge_gradients(self) -> bool:
        """Judge the gradients; return True if there is nothing more to judge."""
        pair = self.pair
        if pair.gradients is None:
            return False
        ours, theirs = ({name: side[name] for name in pair.trained} for side in pair.gradients)
        differs = by_name(ours, theirs, self.precision.negligible)
        is_wrong = max(differs.values(), default=0.0) > self.bar
        ratio = gradient_ratio(pair) if is_wrong else None
        pair.add_noise(ratio or 1.0)
        if ratio and self._is_recorded_elsewhere(ratio):
            self.judgement.ratio = ratio
            return False
        wrong = self._wrong(Part.gradient, differs, self.bar)
        if not wrong:
            return False
        cause = find_cause(Part.gradient, pair, list(wrong))
        self._part(Part.gradient, wrong, cause)
        first = self.judgement.first
        is_small = max(wrong.values()) <= self.precision.growth * self.bar
        if first and cause is None and is_small and self.precision.name != "float64":
            words = (
                f"the gradient of {first.left} differs by {first.difference:.1e} at step {pair.number}, "
                f"which may be rounding in {self.precision.name}"
            )
            self.judgement.first = None
            if pair.earlier is None:
                self._abstain(f"{words}: record in float64 to tell")
            else:
                self.judgement.answer, self.judgement.stop = Answer.same, words
        return True

    def _is_recorded_elsewhere(self, ratio: float) -> bool:
        """True for gradients in a constant ratio that the updates do not have: clipped later on one side."""
        pair = self.pair
        wrong = [n for n, value in pair.update_differences().items() if value > self._update_bar]
        sides = [[side[name] for name in wrong] for side in pair.updates]
        has_ratio = remains(ratio, *sides) < 1e-3
        return not wrong or (not has_ratio and find_cause(Part.update, pair, wrong) is not None)

    @property
    def _update_bar(self) -> float:
        """Bar of updates: how far gradients differ, if it is known, is in the tolerance of each element."""
        last = self.pair.earlier.number if self.pair.earlier else 0
        is_known = self.pair.gradients is not None and self.pair.number == last + 1
        return max(
            self.precision.update_bar, (1.0 if is_known else self.precision.growth) * self.grown
        )

    def _judge_update(self) -> None:
        pair = self.pair
        differs = pair.update_differences()
        wrong = self._wrong(Part.update, differs, self._update_bar)
        if not wrong:
            return
        cause = find_cause(Part.update, pair, list(wrong))
        sizes = {name: pair.before[0][name].size for name in differs}
        is_part = 2 * sum(sizes[name] for name in wrong) < sum(sizes.values())
        if cause is None and pair.gradients is None and is_part:
            self._abstain(
                f"the updates of {listed(list(wrong))} differ at step {pair.number}; {UNKNOWN}"
            )
        else:
            self._part(Part.update, wrong, cause)

    def _wrong(self, part: Part, differs: Mapping[str, float], bar: float) -> dict[str, float]:
        """Note the largest difference of a part; return those above the bar, by the left name."""
        if differs:
            self.judgement.values[part] = max(differs.values())
        return {name: value for name, value in differs.items() if value > bar}

    def _part(
        self,
        part: Part,
        wrong: Mapping[str, float],
        cause: Cause | None,
        names: Mapping[str, str] | None = None,
        fields: Sequence[FieldPair] = (),
    ) -> None:
        """Note that they part at the first array, of gradients at the last; in no order, at the worst."""
        is_ordered = self.is_ordered or part in (Part.batch, Part.training, Part.loss)
        name = max(wrong, key=lambda name: wrong[name])
        if is_ordered:
            name = list(wrong)[-1 if part is Part.gradient else 0]
        other = (self.pair.names if names is None else names)[name]
        found = self.judgement
        found.answer, found.cause = Answer.part, cause
        found.first = First(part, name, other, wrong[name], self.pair.number)
        found.reason = reason(part, (Part.weights, *found.values), fields)

    def _abstain(self, words: str) -> None:
        self.judgement.answer, self.judgement.reason = Answer.abstain, words
