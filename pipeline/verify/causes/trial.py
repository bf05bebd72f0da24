"""Trial of causes: the edited side must agree with the other one, first behind the place, then at the end."""

from collections.abc import Sequence
from math import prod

import numpy as np

from pipeline.verify.causes.candidate import Candidate, Family, spread
from pipeline.verify.causes.flow import TOLERANCE, Flow
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.checks.differences import BAR, relative
from pipeline.verify.checks.places import matched
from pipeline.verify.sides.subject import OUTPUTS, Edit, Inputs
from pipeline.verify.trace.graph import Trace
from pipeline.verify.verdict import SIDES, Part

MOST_ROUNDS = 48  # places that one cause is applied to, one after the other
# Work that is spent on trials of one difference, in results of operations: 20 s of a core in torch. A count,
# not a time: a verdict must not depend on what else the machine does.
BUDGET = 800_000
ELEMENTS = 400  # of a result that take as long as an operation itself
LOOSE = 1e-8  # accepted difference with a remedy, whose formula may round in another way


class Trial:
    """Tries causes of one difference on both sides."""

    def __init__(
        self,
        checker: Checker,
        wrong: Finding,
        inputs: tuple[Inputs, Inputs],
        budget: float = BUDGET,
    ) -> None:
        self.checker, self.wrong, self.inputs = checker, wrong, inputs
        self.budget = budget  # that is left for trials
        self.subjects = checker.left, checker.right
        self.flows = self.flow(0), self.flow(1)
        self.compare(*self.flows)
        self.bar = max(BAR, min(LOOSE, 1e-3 * wrong.value))

    @property
    def is_over(self) -> bool:
        """True when the work for trials is spent."""
        return self.budget < 0

    def flow(self, side: int, edits: Sequence[Edit] = ()) -> Flow:
        """Record a side's pass, with edits."""
        return Flow(SIDES[side], self.subjects[side], self.inputs[side], self.wrong.training, edits)

    def compare(self, left: Flow, right: Flow) -> None:
        """Find what is wrong on both sides."""
        left.compare(right, self._roots(0, left))
        right.compare(left, self._roots(1, right))

    def _spend(self, flow: Flow, until: int | None = None) -> None:
        """Count a pass, up to a place."""
        ops = flow.ops if until is None else flow.ops[: until + 1]
        self.budget -= len(ops) + sum(prod(op.shape) for op in ops) / ELEMENTS

    def _roots(self, side: int, flow: Flow) -> list[int]:
        """Return the places of the results that differ."""
        places = flow.trace.results
        if self.wrong.part is Part.buffers:
            places = flow.trace.updates
            if side == 0:
                return [places[n] for n in [self.wrong.name] if n in places] or [*places.values()]
            return [*places.values()]
        if self.wrong.part is Part.gradient:
            return []
        names = {
            (ours, theirs)[side]
            for ours, (theirs, _) in self.checker.layouts.items()
            if self.wrong.name in (ours, "") or self.wrong.part is Part.training
        }
        return [place for path, place in places.items() if path in names]

    def works(self, ours: Flow, theirs: Flow, candidate: Candidate) -> bool:
        """True if the first difference is gone behind the edits."""
        ends = [candidate.until] if candidate.until is not None else self._ends(ours, candidate)
        if not ends:
            return self.agrees(ours, candidate.edits)
        last = max(ends, key=ours.rank.__getitem__)
        trace = self._traced(ours, candidate.edits, last)
        if trace is None:  # what follows does not take the new shape: the changed operation alone
            ends = [edit.op for edit in candidate.edits if edit.window is not None][:1]
            trace = self._traced(ours, candidate.edits, ends[0]) if ends else None
        if trace is None:
            return False
        for end in ends:
            print_ = trace.ops[end].fingerprint
            if print_ is None or not np.isfinite(print_).all():
                return False
            hits = theirs.find(print_)
            if not hits and end == ends[0]:
                return False
            if any(theirs.found[place] == 0 for place in hits):
                return True
            # A value that both sides have had before: what follows tells if it is used alike.
        return bool(self._ends(ours, candidate)) and (
            self.agrees(ours, candidate.edits) or self._advances(ours, theirs, candidate)
        )

    def _advances(self, ours: Flow, theirs: Flow, candidate: Candidate) -> bool:
        """True if the first wrong value of the other side that enters a layer is right with an edit."""
        trace = self._traced(ours, candidate.edits) if theirs.exits else None
        return trace is not None and bool(
            matched(theirs.trace, trace, TOLERANCE)[theirs.exits[0]] == 1
        )

    def _traced(self, ours: Flow, edits: Sequence[Edit], until: int | None = None) -> Trace | None:
        """Record a pass with more edits; None if they do not fit the operations."""
        self._spend(ours, until)
        try:
            edits = (*ours.edits, *edits)
            return ours.subject.trace(ours.inputs, ours.training, until=until, edits=edits)
        except Exception:  # any that a framework raises, or a worker for it
            return None

    def _ends(self, ours: Flow, candidate: Candidate) -> list[int]:
        """Return the first wrong values behind the edits that enter a layer."""
        edited = {edit.op for edit in candidate.edits if edit.op != OUTPUTS}
        after = set().union(*(ours.after(place) for place in edited)) | edited
        last = max((ours.rank[p] for p in edited if ours.found[p] == 0), default=0)
        ends = [p for p in ours.exits if p in after and ours.rank[p] >= last]
        return ends[:3]

    def agrees(self, ours: Flow, edits: Sequence[Edit]) -> bool:
        """True if both sides end in the same, with edits on one of them."""
        side = SIDES.index(ours.name)
        other = self.flows[1 - side]
        self._spend(ours)
        try:
            trace = ours.subject.trace(ours.inputs, ours.training, edits=(*ours.edits, *edits))
        except Exception:  # any: the edit does not fit the operation
            return False
        traces = (trace, other.trace) if side == 0 else (other.trace, trace)
        for path, (theirs, layout) in self.checker.layouts.items():
            left = np.squeeze(traces[0].outputs[path])
            right = layout.to_left(traces[1].outputs[theirs])
            if not _same(left, right, self.bar):
                return False
        if self.wrong.part is not Part.buffers:
            return True
        values = self.checker.left.values(), self.checker.right.values()
        after = {**values[0], **traces[0].buffers}, {**values[1], **traces[1].buffers}
        mapped = self.checker.mapping.to_left(after[1], after[0])
        return all(_same(after[0][name], mapped[name], self.bar) for name in mapped)

    def gradients_agree(self, side: int, edits: Sequence[Edit]) -> bool:
        """True if both sides have the same gradients and outputs, with edits on one of them."""
        factors = self.checker.weights(self.wrong.seed)
        passes = []
        for at, subject in enumerate(self.subjects):
            changes = tuple(edits) if at == side else ()
            try:
                passes.append(
                    subject.run(self.inputs[at], self.wrong.training, factors[at], changes)
                )
            except Exception:  # any: what an edit makes may have no gradient
                return False
        found = self.checker.compare_passes(
            passes[0], passes[1], self.wrong.training, self.wrong.seed
        )
        bar = max(self.bar, LOOSE)
        return all(finding.value <= bar for finding in found)

    def extend(self, family: Family, side: int, candidate: Candidate) -> tuple[Edit, ...] | None:
        """Apply a candidate that works at the first place to all places; None if that is not enough."""
        ours = self.flows[side]
        for same_layer in (False, True):
            more = spread(ours, candidate.edits, same_layer)
            edits = (*candidate.edits, *(edit for each in more for edit in each))
            if more and self.agrees(ours, edits):
                return edits
        if self.agrees(ours, candidate.edits):
            return candidate.edits
        return self._repeat(family, side, candidate)

    def _repeat(self, family: Family, side: int, candidate: Candidate) -> tuple[Edit, ...] | None:
        """Look for the same cause at the next place, as long as there is one."""
        edits = candidate.edits
        for _ in range(MOST_ROUNDS):
            try:
                ours, theirs = self.flow(side, edits), self.flow(1 - side)
            except Exception:  # any: what follows does not take what an edit makes
                return None
            flows = ours, theirs
            self.compare(*(flows if side == 0 else flows[::-1]))
            if not ours.suspects:
                return edits if self.agrees(self.flows[side], edits) else None
            again = next(
                (
                    other
                    for other in family(ours, theirs)
                    if other.name == candidate.name and not self.is_over
                    and self.works(ours, theirs, other)
                ),
                None,
            )  # fmt: skip
            if again is None or self.is_over:
                return None
            more = spread(ours, again.edits, False)
            wide = (*edits, *again.edits, *(edit for each in more for edit in each))
            if more and self.agrees(self.flows[side], wide):
                return wide
            edits = (*edits, *again.edits)
            if self.agrees(self.flows[side], edits):
                return edits
        return None


def _same(left: np.ndarray, right: np.ndarray, bar: float) -> bool:
    """True if two arrays agree; what is not finite must be so on both sides."""
    finite = np.isfinite(left)
    if not np.array_equal(finite, np.isfinite(right)):
        return False
    return relative(np.where(finite, left, 0.0), np.where(finite, right, 0.0)) <= bar
