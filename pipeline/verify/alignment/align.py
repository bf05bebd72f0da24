"""Alignment of two models: matched by structure, then checked and repaired by their values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import is_

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.draw import draw_values
from pipeline.verify.alignment.fixed import fixed_matches
from pipeline.verify.alignment.gradients import Part, match_elements, matches_of, neutral
from pipeline.verify.alignment.layers import Layer, Owners, find_layers
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.match import Match, Matching, match_layers
from pipeline.verify.alignment.repair import Repair
from pipeline.verify.alignment.whole_arrays import alone, match_whole_arrays
from pipeline.verify.both import both
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.graph import Trace

MOST_TURNS = 8  # of matching by gradients: each may show elements that had none before


@dataclass
class Alignment:
    """The parameters of both sides that are the same, and the weights that the check starts from."""

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
        self.mapping = self.fixed
        self._applied: list[object] = []  # what the mapping was made from
        self._last: tuple[np.ndarray, Arrays] | None = None  # values drawn, and for which elements

    def align(self) -> Alignment:
        """Match the parameters of both models."""
        traces = both(
            partial(self.left.trace, self.inputs[0], False),
            partial(self.right.trace, self.inputs[1], False),
        )
        layers = (
            find_layers(traces[0], self.fixed.left),
            find_layers(traces[1], self.fixed.right),
        )
        self.layers = layers
        kept, *free = fixed_matches(self.fixed, *layers)
        self.matching = match_layers(*free)
        self.matching.matches += kept
        self._apply()
        self.own = self.left.values(), self.right.values()
        self.trials = 0
        match_whole_arrays(self.matching, self.mapping, layers, vectors=False)
        self._repair()
        found = self._match_by_gradients()
        if match_whole_arrays(self.matching, self.mapping, layers) or found:
            self._repair()
        self.values = self._drawn()
        return Alignment(self.mapping, self.matching, self.values, self.trials)

    def _repair(self, is_last: bool = False) -> None:
        """Check the matches, and repair those that are wrong."""
        self.matching.matches.sort(key=lambda match: match.right[0].op)
        self._load()
        trace = self.left.trace(self.inputs[0], False)
        repair = Repair(
            self.matching.matches, trace, self._run, (self._keep_left, self._keep_right)
        )
        repair.repair()
        self.trials += repair.trials
        self._apply()
        if repair.suspects and not is_last and self._resolve(repair.suspects):
            self._repair(is_last=True)

    def _resolve(self, suspects: Sequence[Match]) -> bool:
        """Match the elements of some matches by gradients instead; return False if that matches fewer."""
        before, known = self.matching.matches, (self.mapping.source >= 0).sum()
        wrong = {id(match) for match in suspects}
        self.matching.matches = [match for match in before if id(match) not in wrong]
        self._match_by_gradients()
        if (self.mapping.source >= 0).sum() >= known:
            return True
        self.matching.matches = before
        self._apply()
        return False

    def _match_by_gradients(self) -> bool:
        """Match elements that are left, as long as more are found; return True if any was."""
        found, ambiguous = False, False
        for turn in range(MOST_TURNS):
            self._apply()
            known = self.mapping.is_used, self.mapping.source >= 0
            sides = (
                Part(self.left, self.inputs[0], self.mapping.left, ~known[0]),
                Part(self.right, self.inputs[1], self.mapping.right, ~known[1]),
            )
            if not all(len(side.candidates) for side in sides):
                break
            self._load()
            self.right.load(self.mapping.to_right(self.values, self.own_neutral))
            pairs = match_elements(*sides, self.seed + turn, ambiguous)
            if pairs is None or (ambiguous and not len(pairs[0])):
                break
            ambiguous = not len(pairs[0])
            found |= not ambiguous
            self.matching.matches += matches_of(*pairs, self.layers)
        self._apply()
        return found

    def _drawn(self) -> Arrays:
        """Return values of the left side; elements without a counterpart keep their own."""
        used = self.mapping.is_used
        if self._last is None or not np.array_equal(self._last[0], used):
            args = self.own[0], self.mapping.left, self.layers[0], used, self.seed
            self._last = used, draw_values(*args)
        return self._last[1]

    def _load(self) -> None:
        """Draw values of the left side; on both sides, elements that may have a counterpart are neutral."""
        self._apply()
        left, right = self.mapping.left, self.mapping.right
        free = ~self.mapping.is_used, self.mapping.source < 0
        free = free[0] & ~alone(left, right, *free), free[1] & ~alone(right, left, *free[::-1])
        self.values = _neutralised(self._drawn(), left, free[0], self.layers[0])
        self.own_neutral = _neutralised(self.own[1], right, free[1], self.layers[1])
        self.left.load(self.values)

    def _apply(self) -> None:
        """Make the mapping from the matches, if they have changed."""
        state: list[object] = [
            part for m in self.matching.matches for part in (m.left, m.right, m.rows, m.columns)
        ]
        if len(state) == len(self._applied) and all(map(is_, state, self._applied)):
            return
        self._applied = state
        self.mapping = self.fixed.copy()
        for match in self.matching.matches:
            self.mapping.add(*match.pairs())
        self.mapping.extend()

    def _run(self, until: int | None) -> Trace:
        """Run the right model with the left model's values."""
        self._apply()
        self.right.load(self.mapping.to_right(self.values, self.own_neutral))
        return self.right.trace(self.inputs[1], False, until=until)

    def _keep_left(self, place: int) -> np.ndarray:
        return self.left.trace(self.inputs[0], False, keep=[place]).kept[place]

    def _keep_right(self, place: int) -> np.ndarray:
        return self.right.trace(self.inputs[1], False, keep=[place]).kept[place]


def _neutralised(
    values: Arrays, owners: Owners, free: np.ndarray, layers: Sequence[Layer]
) -> Arrays:
    """Return arrays with the neutral values of free elements."""
    if not free.any():
        return values
    found, held = {}, neutral(layers, owners)
    for index, array in enumerate(owners.arrays):
        numbers = owners.elements(index)
        found[array.name] = np.where(free[numbers], held[numbers], values[array.name])
    return found
