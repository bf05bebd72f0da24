"""Check of two models: from their alignment, over passes and steps, to the verdict."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial

import numpy as np

from pipeline.config.optimizers import AdamConfig, OptimizerConfig
from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.align import Aligner, Alignment
from pipeline.verify.alignment.draw import draw_values
from pipeline.verify.alignment.layers import find_layers
from pipeline.verify.blame import blame
from pipeline.verify.both import both
from pipeline.verify.causes import find_cause_of_leftovers
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.checks.differences import BAR, MARGIN, MOST_NOISE, Layout, relative
from pipeline.verify.checks.draws import (
    describe,
    first_other_rate,
    first_other_size,
    rates,
    shared_by_samples,
)
from pipeline.verify.checks.exchanged import find_exchanged
from pipeline.verify.checks.finite import require_finite
from pipeline.verify.checks.layer_table import layer_table
from pipeline.verify.checks.leftovers import Leftovers, find_leftovers
from pipeline.verify.checks.locate import locate
from pipeline.verify.checks.narrow_noise import NarrowNoise, Noise
from pipeline.verify.checks.randomness import unfollowed, unknown_draws, unrepeatable
from pipeline.verify.checks.shared_tables import SharedTables
from pipeline.verify.inputs import Described, Drawn
from pipeline.verify.lanes import Lanes
from pipeline.verify.names.names_file import NamesFile
from pipeline.verify.names.row_search import find_rows
from pipeline.verify.sides.outputs import LOSS
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.sides.weights_file import WeightsFile
from pipeline.verify.trace.constants import UNIT
from pipeline.verify.trace.graph import Trace
from pipeline.verify.verdict import MEANING, Answer, Cause, First, Part, Verdict, part_of_output


@dataclass(frozen=True)
class Request:
    """What to check, and how thoroughly."""

    inputs: Described | Drawn
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 3
    optimizer: OptimizerConfig = field(default_factory=AdamConfig)
    names: NamesFile | None = None  # rows that are kept while the others are found
    lanes: bool = False
    weights: WeightsFile | None = None  # values of the first seed and of the steps


def judge(left: Subject, right: Subject, request: Request) -> Verdict:
    """Tell if two models are the same, and if not, where they part; see `Judge`."""
    return Judge(left, right, request).judge()


class Judge:
    """Judges two models."""

    def __init__(self, left: Subject, right: Subject, request: Request) -> None:
        self.left, self.right, self.request = left, right, request
        self.sides = ("left", left), ("right", right)
        self.inputs = request.inputs.draw(request.seeds[0])
        self.found: list[Finding] = []
        self.sizes: list[str] = []  # other sizes of the inputs that were compared
        self.verdict = Verdict(Answer.same, "")
        self.verdict.checked = {
            "seeds": list(request.seeds),
            "shapes": self.sizes,
            "modes": ["evaluation", "training"],
            "steps": 0,
            "optimizer": request.optimizer.name,
        }

    def judge(self) -> Verdict:
        """Tell if the two are the same, and if not, where they part.

        Raises:
            UserError: a side gives no finite outputs, or the outputs have different structures.
        """
        reasons = both(
            partial(unrepeatable, "left", self.left, self.inputs[0]),
            partial(unrepeatable, "right", self.right, self.inputs[1]),
        )
        if reason := reasons[0] or reasons[1]:
            return self._abstain(reason)
        alignment = self._align()
        self.matches = alignment.matching.matches
        self.checker = Checker(self.left, self.right, alignment)
        self._read_weights(alignment)
        self.values = alignment.values
        self.checker.load(alignment.values)
        evaluation, self.training = self._trace(False), self._trace(True)
        for side, trace, inputs in zip(self.sides, self.training, self.inputs, strict=True):
            require_finite(*side, trace, inputs, training=True)
        self._match_outputs(evaluation)
        if reason := self._unfollowed():
            return self._abstain(reason)
        leftovers = find_leftovers(self.checker, self.inputs)
        self.narrow = NarrowNoise(self.checker, evaluation)
        self.tables = SharedTables(self.left, self.right, self.narrow.tables)
        if self.narrow.is_there:
            self.checker.right = self.tables
        verdict = (
            self._judge_leftovers(leftovers)
            or self._judge_names(evaluation)
            or self._judge_passes()
            or self._judge_draws()
            or self._judge_sizes()
            or self._judge_steps()
            or self._same()
        )
        self._note_float32()
        self._add_details(alignment, evaluation)
        return verdict

    def _add_details(self, alignment: Alignment, evaluation: tuple[Trace, Trace]) -> None:
        """Add the differences layer by layer, and those of the lanes if they are asked for."""
        seed = self.request.seeds[0]
        gradients: dict[str, float] = {}
        for one in self.found:
            if one.part is Part.gradient and one.seed == seed:
                gradients[one.name] = max(one.value, gradients.get(one.name, 0.0))
        passes = (evaluation, self.training)
        self.verdict.layers = layer_table(self.matches, alignment.mapping, passes, gradients)
        if self.request.lanes:
            lanes = Lanes(self.checker, self.inputs, seed)
            self.verdict.lanes = lanes.compare(alignment.values)
            self.verdict.blame = blame(self.verdict.lanes)

    def _align(self) -> Alignment:
        """Align the two, but for what the user has named."""
        arrays = self.left.description.arrays, self.right.description.arrays
        fixed = self.request.names.mapping(*arrays) if self.request.names else None
        aligner = Aligner(self.left, self.right, self.inputs, self.request.seeds[0], fixed)
        alignment = aligner.align()
        self.verdict.alignment = [asdict(row) for row in find_rows(alignment.mapping)]
        return alignment

    def _read_weights(self, alignment: Alignment) -> None:
        """Put the values of the user's file in place of those that were drawn for the alignment."""
        if self.request.weights is None:
            return
        descriptions = self.left.description, self.right.description
        side, given = self.request.weights.fit(descriptions)
        if side == 0:
            alignment.values = {**alignment.values, **given}
        else:
            self.checker.own = {**self.checker.own, **given}
            alignment.values = alignment.mapping.to_left(self.checker.own, alignment.values)
        self.verdict.checked["weights"] = str(self.request.weights.path)
        zero = [name for name, array in given.items() if not array.any()]
        words = f"; zero in it: {', '.join(zero)}" if zero else ""
        self.verdict.notes.append(
            f"the first seed has the values of {self.request.weights.path} ({self.sides[side][0]}), "
            f"the others drawn ones{words}"
        )

    def _trace(self, training: bool) -> tuple[Trace, Trace]:
        return both(
            partial(self.left.trace, self.inputs[0], training),
            partial(self.right.trace, self.inputs[1], training),
        )

    def _match_outputs(self, traces: tuple[Trace, Trace]) -> None:
        """Match the outputs of both sides; an output that one side alone has is told, and left out."""
        left, right = traces[0].outputs, traces[1].outputs
        try:
            self.checker.match_outputs(left, right)
        except ValueError as error:
            raise self._other_outputs(left, right, str(error)) from None
        if not self.checker.layouts:
            raise self._other_outputs(left, right, "no array of the one fits one of the other")
        theirs = {other for other, _ in self.checker.layouts.values()}
        for side, outputs, known in (
            ("left", left, self.checker.layouts),
            ("right", right, theirs),
        ):
            if more := [path for path in outputs if path not in known]:
                self.verdict.notes.append(f"{side} alone returns {', '.join(more)}: not compared")

    def _other_outputs(self, left: Arrays, right: Arrays, problem: str) -> UserError:
        told = f"left returns {_shapes(left)}; right returns {_shapes(right)}"
        hint = "Compare what both return: a function can return a model whose call picks it."
        return UserError("outputs", told, problem=problem, hint=hint)

    def _judge_leftovers(self, leftovers: Leftovers) -> Verdict | None:
        """Judge parameters that one side alone has."""
        self.verdict.unmatched, notes = leftovers.named, self.verdict.notes
        for side, names in leftovers.redundant.items():
            if names:
                summands = ", ".join(names)
                notes.append(f"{side} adds {summands} to what both add: held at zero in this check")
        if leftovers.tables:
            names = ", ".join(leftovers.tables)
            notes.append(f"kept as they are, since the other side holds none such: {names}")
        if leftovers.unused:
            notes.append(f"left out, since no output depends on it: {', '.join(leftovers.unused)}")
        left, right = (", ".join(leftovers.needed[side]) for side in ("left", "right"))
        if left and right:
            return self._abstain(f"no counterpart was found for {left} (left) and {right} (right)")
        if not left and not right:
            return None
        names = leftovers.needed["left"], leftovers.needed["right"]
        cause = find_cause_of_leftovers(self.checker, names, self.inputs)
        return self._part(First(Part.weights, left or "nothing", right or "nothing", np.inf), cause)

    def _judge_names(self, traces: tuple[Trace, Trace]) -> Verdict | None:
        """Hold the alignment against names that agree."""
        found = find_exchanged(self.matches, traces)
        reason = "layers of one name do not do the same work"
        return self._part(*found, reason=reason) if found else None

    def _judge_passes(self) -> Verdict | None:
        """Compare forward and backward passes, in evaluation and training, from several weights."""
        for seed in self.request.seeds:
            inputs = self.request.inputs.draw(seed)
            if seed != self.request.seeds[0]:
                self._draw_values(seed)
            for training in (False, True):
                found = list(self.checker.compare_pass(inputs, training, seed))
                if verdict := self._judge_findings(found, inputs, training, seed):
                    return verdict
        return None

    def _draw_values(self, seed: int) -> None:
        mapping = self.checker.mapping
        layers = find_layers(self.training[0], mapping.left)
        values = draw_values(self.left.values(), mapping.left, layers, mapping.is_used, seed)
        self.checker.load(values)

    def _judge_findings(
        self,
        found: Sequence[Finding],
        inputs: tuple[Inputs, Inputs],
        training: bool,
        seed: int,
    ) -> Verdict | None:
        """Judge by the first difference of a pass that is no rounding, in the order of cause and effect."""
        self._note(found)
        if all(finding.value <= BAR for finding in found):
            return None
        noise = self.checker.noise_of_pass(inputs[0], training, seed)

        def above(found: Iterable[Finding]) -> list[Finding]:
            bars = {key: max(BAR, min(MOST_NOISE, MARGIN * value)) for key, value in noise.items()}
            return [f for f in found if f.value > bars.get((f.part, f.name), BAR)]

        return self._judge_wrong(
            above(found),
            inputs,
            partial(self.narrow.of_pass, inputs, training, seed),
            lambda: above(self.checker.compare_pass(inputs, training, seed)),
        )

    def _judge_wrong(
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
            return self._part(*locate(self.checker, min(wrong, key=self._rank), inputs))
        if drowned and not self.tables.is_complete:
            layers = ", ".join(self.narrow.layers[0] or self.narrow.layers[1])
            return self._abstain(
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

    def _judge_draws(self) -> Verdict | None:
        """Compare the rates of dropout, which a norm behind it could hide from the outputs."""
        counted = [rates(trace) for trace in self.training]
        if found := first_other_rate(self.training) or first_other_size(self.training):
            return self._part(*found)
        if shared := shared_by_samples(self.training):
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            self.verdict.notes.append(f"a mask that samples or heads share: {shared[0]}{more}")
        if counted[0] != counted[1]:
            words = f"{describe(counted[0])} (left), {describe(counted[1])} (right)"
            self.verdict.notes.append(f"random draws in training: {words}")
        return None

    def _unfollowed(self) -> str:
        """Return why random numbers in training cannot be the same on both sides; nothing if they can."""
        if reason := unknown_draws(self.training):
            return reason
        inputs, training = self.inputs, self.training
        reasons = both(
            partial(unfollowed, "left", self.left, inputs[0], training[0]),
            partial(unfollowed, "right", self.right, inputs[1], training[1]),
        )
        return reasons[0] or reasons[1]

    def _note_float32(self) -> None:
        """Tell which layers hold constants in float32: they leave more than rounding in float64."""
        accepted = self.tables.difference if self.tables.is_complete else self.narrow.accepted
        words = f": {accepted:.0e} is accepted as their rounding" if accepted else ""
        for side, layers in zip(("left", "right"), self.narrow.layers, strict=True):
            if layers:
                more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
                names = f"{', '.join(layers[:3])}{more}"
                self.verdict.notes.append(f"{side} holds constants in float32 ({names}){words}")

    def _judge_sizes(self) -> Verdict | None:
        """Compare the outputs for inputs of other sizes, where both sides take them."""
        for name, variant in self.request.inputs.variants().items():
            inputs = variant.draw(self.request.seeds[0])
            try:
                found = self._compare_outputs(inputs)
            except Exception:  # any: that a side does not take a size is no difference
                self.verdict.notes.append(f"not compared with {name}: a side does not take it")
                continue
            self.sizes.append(name)
            measure = partial(self.narrow.of_outputs, inputs)
            repeat = partial(self._compare_outputs, inputs)
            if verdict := self._judge_wrong(found, inputs, measure, repeat):
                self.verdict.notes.append(f"the difference shows with {name}")
                return verdict
        return None

    def _compare_outputs(self, inputs: tuple[Inputs, Inputs]) -> list[Finding]:
        """Return the differences of the outputs in evaluation that are no rounding."""
        left, right = both(
            partial(self.checker.left.trace, inputs[0], False),
            partial(self.checker.right.trace, inputs[1], False),
        )
        pairs = {path: other for path, (other, _) in self.checker.layouts.items()}
        if not all(np.isfinite(left.outputs[path]).all() for path in pairs):
            raise ValueError("outputs that are not finite")  # rows behind a table's end, in JAX
        found = (
            Finding(
                part_of_output(ours, False),
                ours,
                _difference(left.outputs[ours], right.outputs[theirs]),
            )
            for ours, theirs in pairs.items()
        )
        return [finding for finding in found if finding.value > BAR]

    def _judge_steps(self) -> Verdict | None:
        """Compare the weights after each of some optimizer steps."""
        seed, optimizer = self.request.seeds[0], self.request.optimizer
        batches = [self.request.inputs.draw(seed + step) for step in range(self.request.steps)]
        if not batches:
            return None
        if self.request.weights:
            self.checker.load(self.values)
        found = list(self.checker.compare_steps(batches, optimizer, seed))
        self._note(found)
        self.verdict.checked["steps"] = len(batches)
        if all(finding.value <= BAR for finding in found):
            return None
        noise = self.checker.noise_of_steps([batch[0] for batch in batches], optimizer, seed)
        wrong = [f for f in found if f.value > max(BAR, MARGIN * noise[f.name])]
        measure = partial(self.narrow.of_steps, batches, optimizer, seed)
        return self._judge_wrong(wrong, batches[0], measure)

    def _note(self, found: Sequence[Finding]) -> None:
        self.found += found
        for finding in found:
            known = self.verdict.differences.get(finding.part, 0.0)
            self.verdict.differences[finding.part] = max(known, finding.value)

    def _part(self, first: First, cause: Cause | None = None, reason: str = "") -> Verdict:
        self.verdict.verdict = Answer.part
        self.verdict.reason = reason or MEANING[Part(first.part)]
        self.verdict.first, self.verdict.cause = first, cause
        return self.verdict

    def _same(self) -> Verdict:
        largest, steps = max(self.verdict.differences.values()), self.verdict.checked["steps"]
        after = (
            f", and the weights over {steps} steps of {self.request.optimizer.name}"
            if steps
            else ""
        )
        loss = "loss, " if LOSS in self.checker.layouts else ""
        self.verdict.reason = (
            f"the same: outputs, {loss}gradients and buffers{after} agree to {max(largest, 1e-16):.0e} "
            f"with {len(self.request.seeds)} seed{'s' * (len(self.request.seeds) > 1)}"
        )
        return self.verdict

    def _abstain(self, reason: str) -> Verdict:
        self.verdict.verdict, self.verdict.reason = Answer.abstain, reason
        return self.verdict


def _shapes(outputs: Arrays) -> str:
    return ", ".join(f"{p} {list(array.shape)}" for p, array in outputs.items()) or "no array"


def _difference(left: np.ndarray, right: np.ndarray) -> float:
    try:
        return relative(np.squeeze(left), Layout(left, right).to_left(right))
    except ValueError:
        return np.inf
