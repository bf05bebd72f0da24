"""Alignment of two models: matched by structure, then checked and repaired by their values."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.draw import draw_values
from pipeline.verify.alignment.fixed import fixed_matches
from pipeline.verify.alignment.layers import find_layers
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.match import Matching, match_layers
from pipeline.verify.alignment.repair import Repair
from pipeline.verify.alignment.whole_arrays import match_whole_arrays
from pipeline.verify.both import both
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.graph import Trace


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
        kept, *free = fixed_matches(self.fixed, *layers)
        self.matching = match_layers(*free)
        self.matching.matches += kept
        self._apply()
        match_whole_arrays(self.matching, self.mapping, layers)
        self.matching.matches.sort(key=lambda match: match.right[0].op)
        self._apply()
        self.own = self.left.values(), self.right.values()
        self.values = draw_values(
            self.own[0], self.mapping.left, layers[0], self.mapping.is_used, self.seed
        )
        self.left.load(self.values)
        trace = self.left.trace(self.inputs[0], False)
        repair = Repair(
            self.matching.matches, trace, self._run, (self._keep_left, self._keep_right)
        )
        repair.repair()
        self._apply()
        return Alignment(self.mapping, self.matching, self.values, repair.trials)

    def _apply(self) -> None:
        """Make the mapping from the matches."""
        self.mapping = self.fixed.copy()
        for match in self.matching.matches:
            self.mapping.add(*match.pairs())
        self.mapping.extend()

    def _run(self, until: int | None) -> Trace:
        """Run the right model with the left model's values."""
        self._apply()
        self.right.load(self.mapping.to_right(self.values, self.own[1]))
        return self.right.trace(self.inputs[1], False, until=until)

    def _keep_left(self, place: int) -> np.ndarray:
        return self.left.trace(self.inputs[0], False, keep=[place]).kept[place]

    def _keep_right(self, place: int) -> np.ndarray:
        return self.right.trace(self.inputs[1], False, keep=[place]).kept[place]
