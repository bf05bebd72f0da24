"""Interface of a model under check, as its worker's adapter offers it to the core."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.config.optimizers import OptimizerConfig
from pipeline.storage.portable_state import Arrays
from pipeline.verify.graph import Description, Trace

Inputs = Mapping[str, np.ndarray]


@dataclass
class Pass:
    """A forward and a backward pass in one mode.

    `loss` is the sum of all outputs, each times the weights given for it.
    """

    loss: float
    gradients: Arrays
    outputs: Arrays  # leaves by path
    buffers: Arrays = field(default_factory=dict)  # after the pass, all of them


@dataclass(frozen=True)
class Edit:
    """A change of one operation, to try a remedy.

    One of: the numbers among its arguments, settings by name, a factor of its result, or its result
    replaced by its first input.
    """

    op: int  # place in `Trace.ops`
    numbers: Mapping[int, float] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    function: str = ""  # another function in its place: `gelu_tanh`, `relu`, …
    factor: float = 1.0
    is_skipped: bool = False


class Subject(Protocol):
    """A model of any kind. Arrays are by its own names, in its own layouts, in float64."""

    description: Description

    def values(self) -> Arrays:
        """Return all parameters and buffers."""

    def load(self, arrays: Arrays) -> None:
        """Set the named parameters and buffers; others stay."""

    def trace(
        self,
        inputs: Inputs,
        training: bool,
        keep: Collection[int] = (),
        until: int | None = None,
        edits: Sequence[Edit] = (),
    ) -> Trace:
        """Run the model once and record its operations; buffers stay as they are.

        `keep` are places in `Trace.ops` whose results are returned whole. The pass ends after place
        `until`, without outputs.

        Random numbers are replaced by constants, see `graph.Draw`.
        """

    def run(self, inputs: Inputs, training: bool, weights: Mapping[str, np.ndarray]) -> Pass:
        """Run the model forward and backward; buffers stay as they are.

        `weights` are the factors of the outputs in the loss, by path, each in its output's shape.
        """

    def train(
        self,
        batches: Sequence[Inputs],
        weights: Mapping[str, np.ndarray],
        optimizer: OptimizerConfig,
        trained: Mapping[str, np.ndarray],
    ) -> list[tuple[float, Arrays]]:
        """Take an optimizer step on each batch; return each step's loss, and all values after it.

        `trained` has the parameters that learn, with True for each element that does. At the end the
        values from before are loaded again.
        """
