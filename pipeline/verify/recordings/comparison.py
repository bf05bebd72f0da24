"""Comparison of two recordings, step by step in the order of cause and effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.checks.differences import by_name
from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.leftovers import find_leftovers
from pipeline.verify.recordings.pairing import Pairing, describe
from pipeline.verify.recordings.reasons.causes import find_cause
from pipeline.verify.recordings.reasons.gradient_causes import gradient_ratio
from pipeline.verify.recordings.reasons.regression import remains
from pipeline.verify.recordings.reasons.wording import (
    SIDES,
    UNKNOWN,
    notes_on_fields,
    notes_on_files,
    reason,
)
from pipeline.verify.recordings.recording import Recording
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Answer, Cause, First, Part, Verdict

# Parts on which the steps after depend.
FOLLOWED = (Part.training, Part.loss, Part.gradient, Part.update)


def compare_recordings(left: Path, right: Path) -> Verdict:
    """Tell if two recorded training loops are the same, and if not, at which step and where they part.

    Raises:
        UserError: a file is no recording.
    """
    return Comparison(Recording(left), Recording(right)).judge()


@dataclass(frozen=True)
class Wrong:
    """A difference above its bar; names are the left side's."""

    part: Part
    name: str
    other: str
    value: float
    step: int
    all_names: tuple[str, ...] = ()  # all arrays above the bar


class Comparison:
    """Compares two recordings."""

    def __init__(self, left: Recording, right: Recording) -> None:
        self.left, self.right = left, right
        self.pairing = Pairing(left, right)
        self.precision, self.numbers = self.pairing.precision, self.pairing.numbers
        self.grown = 0.0  # the largest difference before the step at hand
        self.ratios: dict[int, float] = {}  # of gradients at steps whose updates agree
        self.by_step: list[dict[str, float]] = []  # the largest difference of each part
        self.stop = ""  # why the step at hand and all after it are not compared
        self.outgrown: int | None = None  # first step with a difference above the bar of the first
        self.verdict = Verdict(Answer.same, "")
        self.verdict.checked = {
            "seeds": [], "shapes": [], "modes": ["training"], "steps": 0,
            "precision": self.precision.name, "bar": self.precision.bar, "by_step": self.by_step,
        }  # fmt: skip

    def judge(self) -> Verdict:
        """Tell if the two are the same, and if not, at which step and where they part."""
        self.verdict.notes += notes_on_files(self.pairing)
        verdict = self._judge_weights() or self._judge_steps() or self._same()
        if self.ratios:
            number, ratio = next(iter(self.ratios.items()))
            verdict.notes.append(
                f"the right gradients are {ratio:.4g} times the left ones at step {number}, the updates "
                "are not: they were recorded at different places, such as before and after clipping"
            )
        for part in Part:
            values = [step[part] for step in self.by_step if part in step]
            if values:
                verdict.differences[part] = max(values)
        return verdict

    def _judge_weights(self) -> Verdict | None:
        """Judge the weights at the start."""
        pairing, notes = self.pairing, self.verdict.notes
        self.verdict.alignment = describe(pairing.matching.mapping)
        self.verdict.unmatched, needed = find_leftovers(pairing, notes)
        differences = by_name(*pairing.start())
        self.verdict.differences[Part.weights] = max(differences.values(), default=0.0)
        wrong = [name for name, v in differences.items() if v > pairing.start_precision.bar]
        if wrong:
            name = wrong[0]
            first = Wrong(
                Part.weights, name, pairing.names[name], differences[name], 0, tuple(wrong)
            )
            more = f"{len(wrong)} of {len(pairing.names)} arrays differ before the first step"
            if free := sum(map(len, self.verdict.unmatched.values())):
                more += f", and {free} have no counterpart"
            return self._part(first, f"they do not start from the same weights: {more}")
        left, right_ = (", ".join(needed[side]) for side in SIDES)
        if left and right_:
            return self._abstain(f"no counterpart was found for {left} (left) and {right_} (right)")
        if left or right_:
            first = Wrong(Part.weights, left or "nothing", right_ or "nothing", np.inf, 0)
            return self._part(first, "one side alone has these weights, and trains them")
        return None

    def _judge_steps(self) -> Verdict | None:
        """Judge the recorded steps in order."""
        earlier: StepPair | None = None
        for number in self.numbers:
            pair = self.pairing.step(number, earlier)
            if pair.is_finite == (False, False):
                self.by_step.append({})
                self._leave_out(number, "on both sides, numbers are no longer finite")
                break
            self.by_step.append({"step": number})
            if verdict := self._judge_step(pair):
                return verdict
            if self.stop:
                self._leave_out(number, self.stop)
                break
            value = max((v for k, v in self.by_step[-1].items() if k in FOLLOWED), default=0.0)
            if value > self.precision.bar and self.outgrown is None:
                self.outgrown = number
                self.verdict.notes.append(
                    f"rounding grows: from step {number} on they differ by more than {self.precision.bar:.0e}"
                )
            if value > self.precision.most:
                self._leave_out(number, f"rounding has grown to {value:.0e}")
                break
            self.verdict.checked["steps"] = number
            self.grown = max(self.grown, value, self._weights_differ(pair))
            pair.earlier = None  # two steps are held, not all
            earlier = pair
        self.verdict.notes += notes_on_fields(self.pairing)
        if not self.numbers:
            return self._abstain("the recordings have no step in common")
        if not self.by_step:
            return self._abstain("no step could be compared")
        return None

    def _leave_out(self, number: int, words: str) -> None:
        self.by_step.pop()
        self.verdict.notes.append(f"not compared from step {number} on: {words}")

    def _judge_step(self, pair: StepPair) -> Verdict | None:
        bar = max(self.precision.bar, self.precision.growth * self.grown)
        for part, fields in (
            (Part.batch, pair.batch),
            (Part.training, pair.outputs),
            (Part.loss, pair.loss),
        ):
            if fields and (verdict := self._judge_fields(part, fields, pair, bar)):
                return verdict
        differs = pair.buffer_differences()
        if wrong := self._first(Part.buffers, differs, pair, bar):
            return self._part(wrong, cause=find_cause(wrong.part, pair, wrong.all_names))
        if (verdict := self._judge_gradients(pair, bar)) or self.stop:
            return verdict
        return self._judge_update(pair)

    def _judge_fields(
        self, part: Part, fields: list[FieldPair], pair: StepPair, bar: float
    ) -> Verdict | None:
        bar = self.precision.bar if part is Part.batch else bar
        differs = {one.left_name: one.difference for one in fields}
        wrong = self._first(part, differs, pair, bar, {f.left_name: f.right_name for f in fields})
        if wrong is None:
            return None
        words = reason(
            part, self._agreed, [one for one in fields if one.left_name in wrong.all_names]
        )
        return self._part(wrong, words, find_cause(part, pair, wrong.all_names))

    @property
    def _agreed(self) -> list[Part]:
        """Parts of the step at hand that were compared."""
        return [Part.weights, *(part for part in Part if part in self.by_step[-1])]

    def _judge_gradients(self, pair: StepPair, bar: float) -> Verdict | None:
        if pair.gradients is None:
            return None
        differs = self._by_name(pair.trained, pair.gradients)
        ratio = gradient_ratio(pair) if max(differs.values(), default=0.0) > bar else None
        pair.add_noise(ratio or 1.0)
        if ratio and self._is_recorded_elsewhere(pair, ratio):
            self.ratios[pair.number] = ratio
            return None
        wrong = self._first(Part.gradient, differs, pair, bar)
        if wrong is None:
            return None
        cause = find_cause(Part.gradient, pair, wrong.all_names)
        is_small = wrong.value <= self.precision.growth * bar and self.precision.name != "float64"
        if cause is None and is_small:
            words = (
                f"the gradient of {wrong.name} differs by {wrong.value:.1e} at step {pair.number}, which may "
                f"be rounding in {self.precision.name}"
            )
            if pair.earlier is None:
                return self._abstain(f"{words}: record in float64 to tell")
            self.stop = words
            return None
        return self._part(wrong, cause=cause)

    def _is_recorded_elsewhere(self, pair: StepPair, ratio: float) -> bool:
        """True for gradients in a constant ratio that the updates do not have: clipped later on one side."""
        bar, differs = self._update_bar(pair), pair.update_differences()
        wrong = [name for name, value in differs.items() if value > bar]
        sides = [[side[name] for name in wrong] for side in pair.updates]
        has_ratio = remains(ratio, *sides) < 1e-3
        return not wrong or (not has_ratio and find_cause(Part.update, pair, wrong) is not None)

    def _update_bar(self, pair: StepPair) -> float:
        """Bar of updates: how far gradients differ, if it is known, is in the tolerance of each element."""
        last = pair.earlier.number if pair.earlier else 0
        is_known = pair.gradients is not None and pair.number == last + 1
        growth = 1.0 if is_known else self.precision.growth
        return max(self.precision.update_bar, growth * self.grown)

    def _judge_update(self, pair: StepPair) -> Verdict | None:
        differs = pair.update_differences()
        bar = self._update_bar(pair)
        wrong = self._first(Part.update, differs, pair, bar)
        if wrong is None:
            return None
        cause = find_cause(Part.update, pair, wrong.all_names)
        if cause is None and pair.gradients is None:
            sizes = {name: pair.before[0][name].size for name in differs}
            if 2 * sum(sizes[name] for name in wrong.all_names) < sum(sizes.values()):
                names = ", ".join(wrong.all_names[:3])
                return self._abstain(
                    f"the updates of {names} differ at step {pair.number}; {UNKNOWN}"
                )
        return self._part(wrong, cause=cause)

    def _first(
        self,
        part: Part,
        differs: Mapping[str, float],
        pair: StepPair,
        bar: float,
        names: Mapping[str, str] | None = None,
    ) -> Wrong | None:
        """Return the first array above the bar; of gradients the last layer's, or else the worst."""
        self._note(part, differs)
        wrong = [name for name, value in differs.items() if value > bar]
        if not wrong:
            return None
        is_ordered = self.left.is_ordered or part not in (Part.gradient, Part.update, Part.buffers)
        name = max(wrong, key=lambda name: differs[name])
        if is_ordered:
            name = wrong[-1] if part is Part.gradient else wrong[0]
        other = (pair.names if names is None else names)[name]
        return Wrong(part, name, other, differs[name], pair.number, tuple(wrong))

    def _by_name(self, names: Sequence[str], sides: tuple[Arrays, Arrays]) -> dict[str, float]:
        ours, theirs = ({name: side[name] for name in names} for side in sides)
        return by_name(ours, theirs, self.precision.negligible)

    def _note(self, part: Part, differs: Mapping[str, float]) -> None:
        if differs:
            self.by_step[-1][part] = max(differs.values())

    def _weights_differ(self, pair: StepPair) -> float:
        """Difference of the weights after a step, but for those that rounding alone moves."""
        ours, theirs = ({n: a[n] * pair.is_told(n) for n in pair.trained} for a in pair.after)
        return max(by_name(ours, theirs).values(), default=0.0)

    def _part(self, wrong: Wrong, words: str = "", cause: Cause | None = None) -> Verdict:
        self.verdict.verdict = Answer.part
        self.verdict.reason = words or reason(wrong.part, self._agreed)
        self.verdict.first = First(wrong.part, wrong.name, wrong.other, wrong.value, wrong.step)
        self.verdict.cause = cause
        return self.verdict

    def _same(self) -> Verdict:
        compared = (value for step in self.by_step for key, value in step.items() if key != "step")
        value, steps = max(compared, default=0.0), self.verdict.checked["steps"]
        self.verdict.reason = (
            f"the same: over {steps} steps in {self.precision.name} nothing differs by more than "
            f"{max(value, 1e-16):.0e}"
        )
        return self.verdict

    def _abstain(self, reason: str) -> Verdict:
        self.verdict.verdict, self.verdict.reason = Answer.abstain, reason
        return self.verdict
