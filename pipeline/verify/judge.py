"""Check of two models: from their alignment, over passes and steps, to the verdict."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from pipeline.config.optimizers import AdamConfig, OptimizerConfig
from pipeline.errors import UserError
from pipeline.verify.alignment.align import Aligner
from pipeline.verify.alignment.draw import draw_values
from pipeline.verify.alignment.layers import find_layers
from pipeline.verify.checker import Checker, Finding
from pipeline.verify.differences import BAR, MARGIN, MOST_NOISE
from pipeline.verify.fingerprints import distance
from pipeline.verify.graph import Draw, Trace
from pipeline.verify.inputs import Described, Drawn
from pipeline.verify.leftovers import Leftovers, find_leftovers
from pipeline.verify.locate import locate
from pipeline.verify.subject import Inputs, Subject
from pipeline.verify.verdict import MEANING, Answer, First, Part, Verdict

KNOWN_DRAWS = ("bernoulli", "normal", "uniform")


@dataclass(frozen=True)
class Request:
    """What to check, and how thoroughly."""

    inputs: Described | Drawn
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 3
    optimizer: OptimizerConfig = field(default_factory=AdamConfig)


class Judge:
    """Judges two models."""

    def __init__(self, left: Subject, right: Subject, request: Request) -> None:
        self.left, self.right, self.request = left, right, request
        self.verdict = Verdict(Answer.same, "")
        self.verdict.checked = {
            "seeds": list(request.seeds),
            "shapes": [],
            "modes": ["evaluation", "training"],
            "steps": 0,
            "optimizer": request.optimizer.name,
        }

    def judge(self) -> Verdict:
        """Tell if the two are the same, and if not, where they part.

        Raises:
            UserError: a side gives no finite outputs, or the outputs have different structures.
        """
        inputs = self.request.inputs.draw(self.request.seeds[0])
        for side, subject, given in (
            ("left", self.left, inputs[0]),
            ("right", self.right, inputs[1]),
        ):
            if reason := unrepeatable(side, subject, given):
                return self._abstain(reason)
        self.alignment = Aligner(self.left, self.right, inputs, self.request.seeds[0]).align()
        self.checker = Checker(self.left, self.right, self.alignment)
        self.checker.load(self.alignment.values)
        traces = self.left.trace(inputs[0], False), self.right.trace(inputs[1], False)
        self._match_outputs(traces)
        self.outputs = traces[0].outputs
        leftovers = find_leftovers(self.checker, inputs, self.outputs)
        self.verdict.unmatched = leftovers.named
        if reason := self._draws(inputs):
            return self._abstain(reason)
        return self._judge_leftovers(leftovers) or self._compare()

    def _judge_leftovers(self, leftovers: Leftovers) -> Verdict | None:
        """Judge parameters that one side alone has."""
        for side, names in leftovers.redundant.items():
            if names:
                self.verdict.notes.append(
                    f"{side} adds {', '.join(names)} to parameters that both have: held at zero"
                )
        unused = [
            leftover.name
            for side in leftovers.named.values()
            for leftover in side
            if not leftover.is_used
        ]
        if unused:
            self.verdict.notes.append(
                f"left out, without effect on the outputs: {', '.join(unused)}"
            )
        left, right = leftovers.needed["left"], leftovers.needed["right"]
        if left and right:
            return self._abstain(
                f"no counterpart was found for {', '.join(left)} (left) and {', '.join(right)} (right)"
            )
        if left or right:
            self.verdict.verdict = Answer.part
            names = (", ".join(left) or "nothing", ", ".join(right) or "nothing")
            self.verdict.first = First(Part.weights, *names, np.inf)
            self.verdict.reason = "one side trains parameters that the other does not have"
            return self.verdict
        return None

    def _match_outputs(self, traces: tuple[Trace, Trace]) -> None:
        left, right = traces[0].outputs, traces[1].outputs
        try:
            self.checker.match_outputs(left, right)
        except ValueError as error:
            raise UserError(
                "outputs", str(error), problem="an output has different shapes"
            ) from None
        if not self.checker.layouts:
            problem = "the outputs of the two sides have no leaf in common"
            raise UserError("outputs", f"{_shapes(left)} and {_shapes(right)}", problem=problem)
        for side, outputs, known in (
            ("left", left, set(self.checker.layouts)),
            ("right", right, {other for other, _ in self.checker.layouts.values()}),
        ):
            more = [path for path in outputs if path not in known]
            if more:
                self.verdict.notes.append(f"{side} alone returns {', '.join(more)}: not compared")

    def _draws(self, inputs: tuple[Inputs, Inputs]) -> str:
        """Compare the random numbers that both draw in training; return why they cannot be judged."""
        traces = self.left.trace(inputs[0], True), self.right.trace(inputs[1], True)
        for side, trace in zip(("left", "right"), traces, strict=True):
            for draw in trace.draws:
                if draw.kind not in KNOWN_DRAWS:
                    return (
                        f"{side} draws random numbers ({draw.kind}) in {_layer(trace, draw)}, "
                        "which cannot be made the same on both sides"
                    )
        ours, theirs = (_rates(trace.draws) for trace in traces)
        if ours != theirs:
            self.verdict.notes.append(
                f"dropout in training: {_describe(ours)} (left), {_describe(theirs)} (right)"
            )
        self.draws_differ = set(ours) != set(theirs)
        self.training = traces
        return ""

    def _compare(self) -> Verdict:
        findings: list[Finding] = []
        layers = find_layers(self.training[0], self.checker.mapping.left)
        for seed in self.request.seeds:
            if seed != self.request.seeds[0]:
                self.alignment.values = draw_values(
                    self.left.values(),
                    self.checker.mapping.left,
                    layers,
                    self.checker.mapping.is_used,
                    seed,
                )
                self.checker.load(self.alignment.values)
            inputs = self.request.inputs.draw(seed)
            for training in (False, True):
                found = list(self.checker.compare_pass(inputs, training, seed, self.outputs))
                findings += found
                if wrong := self._first(found, seed, inputs[0], training):
                    return self._part(wrong, inputs)
        if self.draws_differ:
            return self._part_of_draws()
        return self._compare_sizes() or self._compare_steps(findings)

    def _first(
        self, found: Sequence[Finding], seed: int, inputs: Inputs, training: bool
    ) -> Finding | None:
        """Return the first difference that is no rounding, in the order of cause and effect."""
        self._note_differences(found)
        if all(finding.value <= BAR for finding in found):
            return None
        noise = self.checker.noise_of_pass(inputs, training, seed, self.outputs)
        order = self._order()
        wrong = [
            finding
            for finding in found
            if finding.value
            > max(BAR, min(MOST_NOISE, MARGIN * noise.get((finding.part, finding.name), 0.0)))
        ]
        return min(wrong, key=lambda finding: order(finding), default=None)

    def _order(self):  # noqa: ANN202
        places = self.execution_order

        def order(finding: Finding) -> tuple[int, int]:
            place = places.get(finding.name, len(places))
            return list(Part).index(
                finding.part
            ), -place if finding.part is Part.gradient else place

        return order

    @property
    def execution_order(self) -> dict[str, int]:
        """Places of the left side's arrays in the order of their first use."""
        names: dict[str, int] = {}
        for use in self.training[0].uses:
            for name in self.checker.mapping.left.names(use.elements[use.elements >= 0]):
                names.setdefault(name, len(names))
        return names

    def _compare_sizes(self) -> Verdict | None:
        """Compare the outputs for inputs of other sizes, where both sides take them."""
        for name, variant in self.request.inputs.variants().items():
            inputs = variant.draw(self.request.seeds[0])
            try:
                traces = self.left.trace(inputs[0], False), self.right.trace(inputs[1], False)
            except Exception:  # a side that does not take this size is no difference
                self.verdict.notes.append(f"not compared with {name}: a side does not take it")
                continue
            self.verdict.checked["shapes"] += [name]  # pyrefly: ignore
            found = [
                Finding(Part.forward, path, _difference(traces, path, other, layout))
                for path, (other, layout) in self.checker.layouts.items()
            ]
            wrong = next((finding for finding in found if finding.value > BAR), None)
            if wrong:
                self.verdict.notes.append(f"the difference shows with {name}")
                return self._part(wrong, inputs)
        return None

    def _compare_steps(self, findings: Sequence[Finding]) -> Verdict:
        count = self.request.steps
        if not count:
            return self._same()
        seed = self.request.seeds[0]
        batches = [self.request.inputs.draw(seed + step) for step in range(count)]
        found = list(
            self.checker.compare_steps(batches, self.request.optimizer, seed, self.outputs)
        )
        self._note_differences(found)
        self.verdict.checked["steps"] = count
        if any(finding.value > BAR for finding in found):
            noise = self.checker.noise_of_steps(
                [batch[0] for batch in batches], self.request.optimizer, seed, self.outputs
            )
            order = self._order()
            wrong = [f for f in found if f.value > max(BAR, MARGIN * noise[f.name])]
            if wrong:
                first = min(wrong, key=lambda finding: (finding.step, order(finding)))
                return self._part(first, batches[0])
        return self._same()

    def _note_differences(self, found: Sequence[Finding]) -> None:
        for finding in found:
            known = self.verdict.differences.get(finding.part, 0.0)
            self.verdict.differences[finding.part] = max(known, finding.value)

    def _part(self, wrong: Finding, inputs: tuple[Inputs, Inputs]) -> Verdict:
        """Name the place and the cause of a difference."""
        self.verdict.verdict = Answer.part
        self.verdict.reason = MEANING[wrong.part]
        self.verdict.first, self.verdict.cause = locate(self.checker, wrong, inputs)
        return self.verdict

    def _part_of_draws(self) -> Verdict:
        ours, theirs = (_rates(trace.draws) for trace in self.training)
        odd = set(ours) ^ set(theirs)
        places = [
            next((_layer(trace, d) for d in trace.draws if (d.kind, d.number) in odd), "nowhere")
            for trace in self.training
        ]
        difference = abs(sum(n for _, n in set(ours)) - sum(n for _, n in set(theirs)))
        self.verdict.verdict = Answer.part
        self.verdict.reason = "the two draw random numbers with other probabilities in training"
        self.verdict.first = First(Part.training, *places, difference)
        return self.verdict

    def _same(self) -> Verdict:
        largest = max(self.verdict.differences.values(), default=0.0)
        steps = self.verdict.checked["steps"]
        self.verdict.reason = (
            f"the same: outputs, gradients and buffers agree to {max(largest, 1e-17):.0e} with "
            f"{len(self.request.seeds)} seeds"
            + (f" and over {steps} steps of {self.request.optimizer.name}" if steps else "")
        )
        return self.verdict

    def _abstain(self, reason: str) -> Verdict:
        self.verdict.verdict, self.verdict.reason = Answer.abstain, reason
        return self.verdict


def judge(left: Subject, right: Subject, request: Request) -> Verdict:
    """Tell if two models are the same, and if not, where they part; see `Judge`."""
    return Judge(left, right, request).judge()


def unrepeatable(side: str, subject: Subject, inputs: Inputs) -> str:
    """Return why a model is not deterministic in evaluation mode; nothing if it is.

    Raises:
        UserError: an output is not finite.
    """
    first, again = subject.trace(inputs, False), subject.trace(inputs, False)
    if first.draws:
        draw = first.draws[0]
        return (
            f"{side} is not deterministic in evaluation mode: {_layer(first, draw)} draws random "
            f"numbers ({draw.kind})"
        )
    for path, array in first.outputs.items():
        if not np.isfinite(array).all():
            bad = next((op for op in first.ops if op.fingerprint is not None
                        and not np.isfinite(op.fingerprint).all()), first.ops[-1])  # fmt: skip
            problem = f"its output {path} is not finite; the first such result is in {bad.layer or bad.source}"
            raise UserError(side, subject.description.kind, problem=problem)
    for op, other in zip_longest(first.ops, again.ops):
        if op is None or other is None or op.fingerprint is None or other.fingerprint is None:
            continue
        if distance(op.fingerprint, other.fingerprint) > 0:
            return (
                f"{side} is not deterministic in evaluation mode: {op.layer or op.source} changes"
            )
    return ""


def _rates(draws: Sequence[Draw]) -> Counter[tuple[str, float]]:
    """Count random draws by kind and probability; a mask that keeps everything counts for nothing."""
    kept = [draw for draw in draws if draw.kind != "bernoulli" or 0 < draw.number < 1]
    return Counter((draw.kind, round(draw.number, 12)) for draw in kept)


def _describe(rates: Counter[tuple[str, float]]) -> str:
    words = [
        f"{count} of rate {1 - number:.3g}" if kind == "bernoulli" else f"{count} {kind}"
        for (kind, number), count in sorted(rates.items())
    ]
    return ", ".join(words) or "none"


def _layer(trace: Trace, draw: Draw) -> str:
    op = trace.ops[min(draw.op, len(trace.ops) - 1)]
    return op.layer or op.source


def _shapes(outputs: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{path} {list(array.shape)}" for path, array in outputs.items()) or "nothing"


def _difference(traces: tuple[Trace, Trace], path: str, other: str, layout: object) -> float:
    from pipeline.verify.differences import Layout, relative

    left, right = traces[0].outputs[path], traces[1].outputs[other]
    try:
        return relative(np.squeeze(left), Layout(left, right).to_left(right))
    except ValueError:
        return np.inf
