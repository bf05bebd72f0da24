"""Two models while they are judged: the findings so far, up to the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from pipeline.config.optimizers import AdamConfig, OptimizerConfig
from pipeline.verify.alignment.align import Alignment
from pipeline.verify.both import both
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.checks.leftovers import Leftovers
from pipeline.verify.checks.locate import locate
from pipeline.verify.checks.narrow_noise import NarrowNoise, Noise
from pipeline.verify.checks.shared_tables import SharedTables
from pipeline.verify.inputs import Described, Drawn
from pipeline.verify.names.names_file import NamesFile
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.sides.weights_file import WeightsFile
from pipeline.verify.trace.constants import UNIT
from pipeline.verify.trace.graph import Trace
from pipeline.verify.verdict import MEANING, Answer, Cause, First, Part, Verdict


@dataclass(frozen=True)
class Request:
    """The inputs of a check, and its thoroughness."""

    inputs: Described | Drawn
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 3
    optimizer: OptimizerConfig = field(default_factory=AdamConfig)
    names: NamesFile | None = None  # rows that are kept while the others are found
    lanes: bool = False
    weights: WeightsFile | None = None  # values of the first seed and of the steps


class Case:
    """Two models, what was asked of them and found so far.

    `place` are the inputs of the pass that decided, and True for training; None if none did.
    """

    def __init__(self, left: Subject, right: Subject, request: Request) -> None:
        self.left, self.right, self.request = left, right, request
        self.sides = ("left", left), ("right", right)
        self.inputs = request.inputs.draw(request.seeds[0])
        self.found: list[Finding] = []
        self.alone: list[str] = []  # outputs that one side alone has, in words
        self.sizes: list[str] = []  # other sizes of the inputs that were compared
        self.place: tuple[tuple[Inputs, Inputs], bool] | None = None
        self.verdict = Verdict(Answer.same, "")
        self.verdict.checked = {
            "seeds": list(request.seeds),
            "shapes": self.sizes,
            "modes": ["evaluation", "training"],
            "steps": 0,
            "optimizer": request.optimizer.name,
        }
        self.alignment: Alignment
        self.checker: Checker
        self.evaluation: tuple[Trace, Trace]
        self.training: tuple[Trace, Trace]
        self.leftovers: Leftovers
        self.narrow: NarrowNoise
        self.tables: SharedTables

    def trace(self, inputs: tuple[Inputs, Inputs], training: bool) -> tuple[Trace, Trace]:
        """Record a pass of both models."""
        return both(
            partial(self.left.trace, inputs[0], training),
            partial(self.right.trace, inputs[1], training),
        )

    def judge_wrong(
        self,
        wrong: Sequence[Finding],
        inputs: tuple[Inputs, Inputs],
        measure: Callable[[float], Noise],
        repeat: Callable[[], Sequence[Finding]] | None = None,
    ) -> Verdict | None:
        """Judge by the first difference that is not the rounding of constants in float32.

        `measure` measures what follows from moving them; `repeat` compares again, with shared tables.
        """
        drowned: Sequence[Finding] = ()
        if wrong and self.narrow.is_there:
            others = wrong
            if repeat:
                is_complete = self.tables.share(inputs, wrong[0].training)
                others = repeat()
                if not is_complete:
                    wrong = others
            if others is wrong or not others:
                size = max(UNIT, self.tables.difference)
                wrong, drowned = self.narrow.split(wrong, measure(size))
            else:
                wrong = others
        if wrong:
            first = min(wrong, key=self._rank)
            self.place = inputs, first.training
            return self.part(*locate(self.checker, first, inputs))
        if drowned and not self.tables.is_complete:
            layers = ", ".join(self.narrow.layers[0] or self.narrow.layers[1])
            return self.abstain(
                f"the rounding of constants in float32 ({layers}) hides differences up to "
                f"{max(finding.value for finding in drowned):.0e}: make them in float64"
            )
        return None

    def _rank(self, finding: Finding) -> tuple[int, int, int]:
        """Rank of a difference: an earlier step, part or layer first; of gradients the last layer."""
        place = self.execution_order.get(finding.name, len(self.execution_order))
        parts = list(Part)
        return (
            finding.step,
            parts.index(finding.part),
            -place if finding.part is Part.gradient else place,
        )

    @cached_property
    def execution_order(self) -> dict[str, int]:
        """Places of the left side's arrays in the order of their first use."""
        names: dict[str, int] = {}
        for use in self.training[0].uses:
            for name in self.checker.mapping.left.names(use.elements[use.elements >= 0]):
                names.setdefault(name, len(names))
        return names

    def note(self, found: Sequence[Finding]) -> None:
        """Keep differences; of each part the largest is told."""
        self.found += found
        for finding in found:
            known = self.verdict.differences.get(finding.part, 0.0)
            self.verdict.differences[finding.part] = max(known, finding.value)

    def part(self, first: First, cause: Cause | None = None, reason: str = "") -> Verdict:
        """Judge that the two part."""
        self.verdict.verdict = Answer.part
        self.verdict.reason = reason or MEANING[Part(first.part)]
        self.verdict.first, self.verdict.cause = first, cause
        return self.verdict

    def abstain(self, reason: str) -> Verdict:
        """Judge that it cannot be told if they are the same."""
        self.verdict.verdict, self.verdict.reason = Answer.abstain, reason
        return self.verdict
