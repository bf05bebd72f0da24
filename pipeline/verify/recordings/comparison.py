"""Comparison of two recordings: their weights at the start, then step by step."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline.verify.alignment.names import similarity
from pipeline.verify.checks.differences import by_name
from pipeline.verify.names.row_search import find_rows
from pipeline.verify.recordings.pairing import Pairing
from pipeline.verify.recordings.reasons.wording import notes_on_fields, notes_on_files
from pipeline.verify.recordings.recording import Recording
from pipeline.verify.recordings.step_judge import Judgement, StepJudge
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import SIDES, Answer, First, Leftover, Part, Verdict


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
        self.precision = self.pairing.precision
        self.judged: dict[int, Judgement] = {}  # by step
        self.verdict = Verdict(Answer.same, "", notes=notes_on_files(self.pairing))

    def judge(self) -> Verdict:
        """Tell if the two are the same, and if not, at which step and where they part."""
        verdict, judged = self.verdict, self.judged
        if not self._weights_part() and not self._steps_part():
            most = max(max(one.values.values(), default=0.0) for one in judged.values())
            verdict.reason = (
                f"the same: over {max(judged)} steps in {self.precision.name} nothing differs by more than "
                f"{max(most, 1e-16):.0e}"
            )
        verdict.checked = {
            "seeds": [],
            "shapes": [],
            "modes": ["training"],
            "steps": max(judged, default=0),
            "precision": self.precision.name,
            "bar": self.precision.bar,
            "by_step": [{"step": n, **one.values} for n, one in judged.items()],
        }
        for part in Part:
            if values := [one.values[part] for one in judged.values() if part in one.values]:
                verdict.differences[part] = max(values)
        return verdict

    def _weights_part(self) -> bool:
        """Judge the weights at the start; return True if that decides the verdict."""
        pairing, verdict = self.pairing, self.verdict
        verdict.alignment = [asdict(row) for row in find_rows(pairing.mapping)]
        needed = [", ".join(self._leftovers(at)) for at in range(len(SIDES))]
        differences = by_name(*pairing.start())
        verdict.differences[Part.weights] = max(differences.values(), default=0.0)
        wrong = [name for name, v in differences.items() if v > pairing.start_precision.bar]
        if wrong:
            words = f"{len(wrong)} of {len(pairing.names)} arrays differ before the first step"
            if free := sum(map(len, verdict.unmatched.values())):
                words += f", and {free} have no counterpart"
            others = ", ".join(pairing.names[wrong[0]])
            first = First(Part.weights, wrong[0], others, differences[wrong[0]])
            reason = f"they do not start from the same weights: {words}"
            return self._decide(Answer.part, reason, first)
        if all(needed):
            reason = f"no counterpart was found for {needed[0]} (left) and {needed[1]} (right)"
            return self._decide(Answer.abstain, reason)
        if any(needed):
            first = First(Part.weights, needed[0] or "nothing", needed[1] or "nothing", np.inf)
            reason = "one side alone has these weights, and trains them"
            return self._decide(Answer.part, reason, first)
        if not pairing.names:
            return self._decide(Answer.abstain, "no weights of the two sides belong together")
        return False

    def _leftovers(self, at: int) -> list[str]:
        """Note the weights without a counterpart; return the names of those that change."""
        matching, notes, side = self.pairing.matching, self.verdict.notes, SIDES[at]
        recording = (self.pairing.left, self.pairing.right)[at]
        start = recording.start()
        last = recording.step(recording.numbers[-1])["weights"] if recording.numbers else start
        free, others = matching.unmatched[side], matching.unmatched[SIDES[1 - at]]
        idle = [name for name in free if np.array_equal(start[name], last[name])]
        for name in free:
            nearest = max(others, key=lambda other, name=name: similarity(name, other), default="")
            leftover = Leftover(name, start[name].shape, nearest, name not in idle)
            self.verdict.unmatched[side].append(leftover)
        if idle:
            notes.append(f"{side}: left out, since it never changes: {', '.join(idle)}")
        if copies := matching.copies[side]:
            notes.append(f"{side}: the same weights by another name: {', '.join(copies)}")
        return [name for name in free if name not in idle]

    def _steps_part(self) -> bool:
        """Judge the recorded steps in order; return True if that decides the verdict."""
        earlier: StepPair | None = None
        grown = 0.0  # the largest difference before the step at hand
        bar, notes = self.precision.bar, self.verdict.notes
        is_ordered = self.pairing.left.is_ordered
        for number in self.pairing.numbers:
            pair = self.pairing.step(number, earlier)
            found = StepJudge(pair, self.precision, grown, is_ordered).judge()
            if found.stop:
                notes.append(f"not compared from step {number} on: {found.stop}")
                break
            self.judged[number] = found
            if found.ratio and not any("at different places" in note for note in notes):
                notes.append(
                    f"the right gradients are {found.ratio:.4g} times the left ones at step {number}, the "
                    "updates are not: they were recorded at different places, such as before and "
                    "after clipping"
                )
            if found.answer is not Answer.same:
                self.verdict.cause = found.cause
                return self._decide(found.answer, found.reason, found.first)
            if (
                found.followed > bar
                and sum(one.followed > bar for one in self.judged.values()) == 1
            ):
                notes.append(
                    f"rounding grows: from step {number} on they differ by more than {bar:.0e}"
                )
            grown = max(grown, found.followed, pair.weight_difference())
            pair.earlier = None  # two steps are held, not all
            earlier = pair
        notes += notes_on_fields(self.pairing)
        if self.judged:
            return False
        is_common = bool(self.pairing.numbers)
        problem = (
            "no step could be compared" if is_common else "the recordings have no step in common"
        )
        return self._decide(Answer.abstain, problem)

    def _decide(self, answer: Answer, reason: str, first: First | None = None) -> bool:
        self.verdict.verdict, self.verdict.reason, self.verdict.first = answer, reason, first
        return True
