"""Judgement of one recorded step, part by part in the order of cause and effect."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.verify.recordings.precision import Precision
from pipeline.verify.recordings.reasons.causes import find_cause
from pipeline.verify.recordings.reasons.gradient_causes import gradient_ratio
from pipeline.verify.recordings.reasons.proportions import remains
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
        pair, found = self.pair, self.judgement
        if pair.is_finite == (False, False):
            found.stop = "on both sides, numbers are no longer finite"
            return found
        for part, fields in pair.fields.items():
            bar = self.precision.bar if part is Part.batch else self.bar
            if self._parts(part, {one.left_name: one.difference for one in fields}, bar):
                return found
        if self._parts(Part.buffers, pair.buffer_differences(), self.bar) or self._gradients_part():
            return found
        self._parts(Part.update, pair.update_differences(), self._update_bar)
        if found.answer is Answer.same and found.followed > self.precision.most:
            found.stop = f"rounding has grown to {found.followed:.0e}"
        return found

    def _gradients_part(self) -> bool:
        """Judge the gradients; those that are recorded before clipping on one side are no difference."""
        pair = self.pair
        differs = pair.gradient_differences()
        ratio = gradient_ratio(pair) if max(differs.values(), default=0.0) > self.bar else None
        pair.add_noise(ratio or 1.0)
        if ratio and self._is_recorded_elsewhere(ratio):
            self.judgement.ratio = ratio
            return False
        return self._parts(Part.gradient, differs, self.bar)

    def _is_recorded_elsewhere(self, ratio: float) -> bool:
        """True for gradients in a constant ratio that the updates do not have: clipped later on one side."""
        pair = self.pair
        wrong = [n for n, value in pair.update_differences().items() if value > self._update_bar]
        has_ratio = remains(ratio, *pair.lists(pair.updates, wrong)) < 1e-3
        return not wrong or (not has_ratio and find_cause(Part.update, pair, wrong) is not None)

    @property
    def _update_bar(self) -> float:
        """Bar of updates: how far gradients differ, if it is known, is in the tolerance of each element."""
        last = self.pair.earlier.number if self.pair.earlier else 0
        is_known = self.pair.gradients is not None and self.pair.number == last + 1
        growth = 1.0 if is_known else self.precision.growth
        return max(self.precision.update_bar, growth * self.grown)

    def _parts(self, part: Part, differs: Mapping[str, float], bar: float) -> bool:
        """Note how far a part differs, by the left names; return True if that decides the verdict."""
        if differs:
            self.judgement.values[part] = max(differs.values())
        wrong = {name: value for name, value in differs.items() if value > bar}
        if not wrong:
            return False
        pair, found = self.pair, self.judgement
        fields = [one for one in pair.fields.get(part, ()) if one.left_name in wrong]
        names = {one.left_name: one.right_name for one in fields} if fields else pair.names
        # At the first array, of gradients at the last; if weights are in no order, at the worst.
        name = list(wrong)[-1 if part is Part.gradient else 0]
        if not (fields or self.is_ordered):
            name = max(wrong, key=lambda name: wrong[name])
        found.answer, found.cause = Answer.part, find_cause(part, pair, list(wrong))
        found.first = First(part, name, names[name], wrong[name], pair.number)
        found.reason = reason(part, (Part.weights, *found.values), fields)
        if found.cause is None:
            self._doubt(found.first, wrong)
        return True

    def _doubt(self, first: First, wrong: Mapping[str, float]) -> None:
        """Take back what may be rounding: small differences of gradients, and of a part of the updates."""
        pair, precision, found = self.pair, self.precision, self.judgement
        is_small = max(wrong.values()) <= precision.growth * self.bar
        if first.part == Part.gradient and is_small and precision.name != "float64":
            found.first = None
            words = (
                f"the gradient of {first.left} differs by {first.difference:.1e} at step {pair.number}, "
                f"which may be rounding in {precision.name}"
            )
            if pair.earlier is None:
                found.answer, found.reason = Answer.abstain, f"{words}: record in float64 to tell"
            else:
                found.answer, found.stop = Answer.same, words
        sizes = {name: pair.before[0][name].size for name in pair.trained}
        is_part = 2 * sum(sizes.get(name, 0) for name in wrong) < sum(sizes.values())
        if first.part == Part.update and is_part and pair.gradients is None:
            names = listed(list(wrong))
            found.answer, found.first = Answer.abstain, None
            found.reason = f"the updates of {names} differ at step {pair.number}; {UNKNOWN}"
