"""Alignment of two models: matched by structure, then checked and repaired by their values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.draw import draw_values
from pipeline.verify.alignment.fixed import fixed_matches
from pipeline.verify.alignment.layers import MATRICES, Layer, find_layers, root
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.match import Match, Matching, match_layers
from pipeline.verify.alignment.names import pattern
from pipeline.verify.alignment.permutations import column_order, features_last, row_orders
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.fingerprints import distance
from pipeline.verify.trace.graph import Role, Trace

TOLERANCE = 1e-7  # of values that are the same, while parameters are matched
MOST_TRIALS = 400  # runs of the right model in search of an alignment


@dataclass
class Alignment:
    """What is the same parameter on both sides, and the weights that the check starts from."""

    mapping: Mapping
    matching: Matching
    values: Arrays  # of the left side
    trials: int = 0
    notes: list[str] = field(default_factory=list)


class Aligner:
    """Aligns two models on one input."""

    def __init__(
        self,
        left: Subject,
        right: Subject,
        inputs: tuple[Inputs, Inputs],
        seed: int,
        fixed: Mapping | None = None,
    ) -> None:
        """Take two models; `fixed` maps the elements that are not to be aligned, but kept."""
        self.left, self.right, self.inputs, self.seed = left, right, inputs, seed
        self.fixed = fixed or Mapping(left.description.arrays, right.description.arrays)
        self.trials = 0

    def align(self) -> Alignment:
        """Match the parameters of both models."""
        self.mapping = self.fixed.copy()
        traces = self.left.trace(self.inputs[0], False), self.right.trace(self.inputs[1], False)
        layers = (
            find_layers(traces[0], self.mapping.left),
            find_layers(traces[1], self.mapping.right),
        )
        kept, *free = fixed_matches(self.fixed, *layers)
        self.matching = match_layers(*free)
        self.matching.matches += kept
        self.matching.matches.sort(key=lambda match: match.right[0].op)
        self.own = self.left.values(), self.right.values()
        self._apply()
        values = draw_values(
            self.own[0], self.mapping.left, layers[0], self.mapping.is_used, self.seed
        )
        self.left.load(values)
        self.values = values
        self.trace = self.left.trace(self.inputs[0], False)
        self._repair()
        return Alignment(self.mapping, self.matching, values, self.trials)

    def _apply(self) -> None:
        """Make the mapping from the matches."""
        self.mapping = self.fixed.copy()
        for match in self.matching.matches:
            self.mapping.add(*match.pairs())

    def _run(self, until: int | None = None) -> Trace:
        """Run the right model with the left model's values."""
        self._apply()
        self.right.load(self.mapping.to_right(self.values, self.own[1]))
        self.trials += 1
        return self.right.trace(self.inputs[1], False, until=until)

    def _repair(self) -> None:
        """Check the matches in the order of execution; repair the first that is wrong, and go on."""
        trace = self._run()
        at = 0
        while at < len(self.matching.matches) and self.trials < MOST_TRIALS:
            match = self.matching.matches[at]
            if not self._takes_the_same(match, trace):
                fixed = self._try_others(at)
            elif not self._gives_the_same(match, trace):
                fixed = self._reorder(match, trace)
            else:
                match.is_confirmed = True
                at += 1
                continue
            if not fixed:
                return
            trace = self._run()
            at = 0

    def _takes_the_same(self, match: Match, trace: Trace) -> bool:
        ours, theirs = match.left[0].data, match.right[0].data
        if ours is None or theirs is None or match.left[0].role not in MATRICES:
            return True  # one side may scale a norm's factor, the other its result
        return self._same(trace, ours, theirs) or self._same(
            trace, root(self.trace.ops, ours), root(trace.ops, theirs)
        )

    def _gives_the_same(self, match: Match, trace: Trace) -> bool:
        if len(match.left) > 1 or len(match.right) > 1 or match.left[0].role not in MATRICES:
            return True  # shown by what follows
        ours, theirs = match.left[0], match.right[0]
        places = (ours.result, theirs.result), (ours.op, theirs.op)
        return any(self._same(trace, *pair) for pair in places)

    def _same(self, trace: Trace, ours: int, theirs: int) -> bool:
        prints = self.trace.ops[ours].fingerprint, trace.ops[theirs].fingerprint
        if prints[0] is None or prints[1] is None:
            return True
        return distance(prints[0], prints[1]) <= TOLERANCE

    def _reorder(self, match: Match, trace: Trace) -> bool:
        """Find the order of a layer's inputs, where both sides apply it to the same values."""
        del trace
        ours, theirs = match.left[0], match.right[0]
        if ours.data is None or theirs.data is None or match.columns is not None:
            return False
        if ours.role not in (Role.dot, Role.conv):
            return False
        left = self.left.trace(self.inputs[0], False, keep=[ours.data]).kept[ours.data]
        right = self.right.trace(self.inputs[1], False, keep=[theirs.data]).kept[theirs.data]
        order = column_order(
            features_last(left, ours.data_axes), features_last(right, theirs.data_axes), TOLERANCE
        )
        if order is None or (order == np.arange(len(order))).all():
            return False
        for other in self._alike(match):
            other.columns = order
        return True

    def _try_others(self, at: int) -> bool:
        """Try other orders of what precedes a match whose data differ, nearest first."""
        wrong = self.matching.matches[at]
        until = wrong.right[0].op
        for change, undo in self._alternatives(at):
            if self.trials >= MOST_TRIALS:
                return False
            change()
            if self._takes_the_same(wrong, self._run(until)):
                return True
            undo()
        self._apply()
        return False

    def _alternatives(self, at: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        """Yield changes of the matches before place `at`, each with its reversal."""
        before = self.matching.matches[:at][::-1]
        for match in before:
            if len(match.left) > 1 or len(match.right) > 1:
                more = match.right if len(match.right) > len(match.left) else match.left
                alike = self._alike(match)
                for rows in row_orders([layer.outputs for layer in more]):
                    order = rows if more is match.right else np.argsort(rows)
                    yield _set(alike, "rows", order), _set(alike, "rows", None)
        seen: set[int] = set()
        for match in before:
            fan = [other for other in before if _is_sibling(match, other)]
            if len(fan) < 2 or id(fan[0]) in seen or len(fan) > 4:
                continue
            seen |= {id(other) for other in fan}
            lefts = [other.left for other in fan]
            for order in list(permutations(range(len(fan))))[1:]:
                yield (
                    _assign(fan, [lefts[i] for i in order]),
                    _assign(fan, lefts),
                )

    def _alike(self, match: Match) -> list[Match]:
        """Return the match and those of the same layer in other blocks, that are not confirmed."""
        key = _pattern(match)
        return [match] + [
            other
            for other in self.matching.matches
            if other is not match and not other.is_confirmed and _pattern(other) == key
        ]


def _pattern(match: Match) -> tuple[object, ...]:
    layers: list[Layer] = [*match.left, *match.right]
    return tuple((tuple(map(pattern, layer.arrays)), layer.elements.shape) for layer in layers)


def _is_sibling(match: Match, other: Match) -> bool:
    """True for two matches of layers of one shape that are applied to the same data."""
    if len(match.left) > 1 or len(match.right) > 1 or len(other.left) > 1 or len(other.right) > 1:
        return False
    one, two = match.right[0], other.right[0]
    return (
        one.root == two.root and one.elements.shape == two.elements.shape and one.root is not None
    )


def _set(matches: list[Match], name: str, value: object) -> Callable[[], None]:
    def change() -> None:
        for match in matches:
            setattr(match, name, value)

    return change


def _assign(fan: list[Match], lefts: list[list[Layer]]) -> Callable[[], None]:
    def change() -> None:
        for match, left in zip(fan, lefts, strict=True):
            match.left = left

    return change
