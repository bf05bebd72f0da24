"""Comparison of two recordings: their weights at the start, then step by step."""

from pathlib import Path

import numpy as np

from pipeline.verify.checks.differences import by_name
from pipeline.verify.recordings.leftovers import find_leftovers
from pipeline.verify.recordings.pairing import Pairing, describe
from pipeline.verify.recordings.reasons.wording import SIDES, notes_on_fields, notes_on_files
from pipeline.verify.recordings.recording import Recording
from pipeline.verify.recordings.step_judge import Judgement, StepJudge
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Answer, First, Part, Verdict


def compare_recordings(left: Path, right: Path) -> Verdict:
    """Tell if two recorded training loops are the same, and if not, at which step and where they part.

    Raises:
        UserError: a file is no recording.
    """
    return Comparison(Recording(left), Recording(right)).judge()


class Comparison:
    """Compares two recordings."""

    def __init__(self, left: Recording, right: Recording) -> None:
        self.pairing = Pairing(left, right)
        self.is_ordered = left.is_ordered
        self.precision, self.numbers = self.pairing.precision, self.pairing.numbers
        self.judged: dict[int, Judgement] = {}  # by step
        self.verdict = Verdict(Answer.same, "", notes=notes_on_files(self.pairing))

    def judge(self) -> Verdict:
        """Tell if the two are the same, and if not, at which step and where they part."""
        verdict = self._judge_weights() or self._judge_steps() or self._same()
        verdict.checked = {
            "seeds": [],
            "shapes": [],
            "modes": ["training"],
            "steps": max(self.judged, default=0),
            "precision": self.precision.name,
            "bar": self.precision.bar,
            "by_step": [{"step": n, **one.values} for n, one in self.judged.items()],
        }
        for part in Part:
            if values := [one.values[part] for one in self.judged.values() if part in one.values]:
                verdict.differences[part] = max(values)
        for number, one in self.judged.items():
            if one.ratio:
                verdict.notes.append(
                    f"the right gradients are {one.ratio:.4g} times the left ones at step {number}, the "
                    "updates are not: they were recorded at different places, such as before and "
                    "after clipping"
                )
                break
        return verdict

    def _judge_weights(self) -> Verdict | None:
        """Judge the weights at the start."""
        pairing, verdict = self.pairing, self.verdict
        verdict.alignment = describe(pairing.matching.mapping)
        verdict.unmatched, needed = find_leftovers(pairing, verdict.notes)
        differences = by_name(*pairing.start())
        verdict.differences[Part.weights] = max(differences.values(), default=0.0)
        wrong = [name for name, v in differences.items() if v > pairing.start_precision.bar]
        if wrong:
            first = First(Part.weights, wrong[0], pairing.names[wrong[0]], differences[wrong[0]])
            words = f"{len(wrong)} of {len(pairing.names)} arrays differ before the first step"
            if free := sum(map(len, verdict.unmatched.values())):
                words += f", and {free} have no counterpart"
            return self._part(first, f"they do not start from the same weights: {words}")
        left, right = (", ".join(needed[side]) for side in SIDES)
        if left and right:
            return self._abstain(f"no counterpart was found for {left} (left) and {right} (right)")
        if left or right:
            first = First(Part.weights, left or "nothing", right or "nothing", np.inf)
            return self._part(first, "one side alone has these weights, and trains them")
        return None

    def _judge_steps(self) -> Verdict | None:
        """Judge the recorded steps in order."""
        earlier: StepPair | None = None
        grown = 0.0  # the largest difference before the step at hand
        bar = self.precision.bar
        notes = self.verdict.notes
        for number in self.numbers:
            pair = self.pairing.step(number, earlier)
            judge = StepJudge(pair, self.precision, grown, self.is_ordered)
            if pair.is_finite == (False, False):
                found = Judgement(stop="on both sides, numbers are no longer finite")
            else:
                found = judge.judge()
            if found.answer is Answer.same and found.followed > self.precision.most:
                found.stop = f"rounding has grown to {found.followed:.0e}"
            if found.stop:
                notes.append(f"not compared from step {number} on: {found.stop}")
                break
            self.judged[number] = found
            if found.answer is not Answer.same:
                self.verdict.cause = found.cause
                is_part = found.answer is Answer.part and found.first
                return (
                    self._part(found.first, found.reason)
                    if is_part
                    else self._abstain(found.reason)
                )
            if found.followed > bar and all(
                one.followed <= bar for n, one in self.judged.items() if n < number
            ):
                notes.append(
                    f"rounding grows: from step {number} on they differ by more than {bar:.0e}"
                )
            grown = max(grown, found.followed, judge.weights_differ())
            pair.earlier = None  # two steps are held, not all
            earlier = pair
        notes += notes_on_fields(self.pairing)
        if not self.numbers:
            return self._abstain("the recordings have no step in common")
        return None if self.judged else self._abstain("no step could be compared")

    def _part(self, first: First | None, words: str) -> Verdict:
        self.verdict.verdict, self.verdict.reason, self.verdict.first = Answer.part, words, first
        return self.verdict

    def _same(self) -> Verdict:
        value = max(max(one.values.values(), default=0.0) for one in self.judged.values())
        self.verdict.reason = (
            f"the same: over {max(self.judged)} steps in {self.precision.name} nothing differs by more than "
            f"{max(value, 1e-16):.0e}"
        )
        return self.verdict

    def _abstain(self, words: str) -> Verdict:
        self.verdict.verdict, self.verdict.reason = Answer.abstain, words
        return self.verdict
