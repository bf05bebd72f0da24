"""Interface of a model under check, as its worker's adapter offers it to the core."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.config.optimizers import OptimizerConfig
from pipeline.config.train import Precision
from pipeline.storage.portable_state import Arrays
from pipeline.verify.trace.graph import Description, Trace, Window

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
    narrow: str = ""  # of a lane in fp64: its first operation in a narrower type, if there is one


MIDDLE = 0.5  # takes the place of a uniform random number
OUTPUTS = -1  # in place of an operation: the outputs and the changed buffers


@dataclass(frozen=True)
class Edit:
    """A change of one operation, to try a remedy.

    `numbers`, `window` and `operands` change its arguments. `function`, one of
    `pipeline.verify.replay.functions`, takes the place of its result: of the results of `inputs`, of its
    own if there are none, with `arguments` behind them. `value` is a constant result. All places are
    those of an unchanged pass.
    """

    op: int  # place in `Trace.ops`, or OUTPUTS
    numbers: Mapping[int, float] = field(default_factory=dict)  # by their order in `Op.numbers`
    window: Window | None = None
    operands: Mapping[int, int] = field(default_factory=dict)  # places to take its inputs from
    function: str = ""
    inputs: tuple[int, ...] = ()
    arguments: tuple[object, ...] = ()
    value: np.ndarray | None = None


class Subject(Protocol):
    """A model of any kind. Arrays are by its own names, in its own layouts, in float64."""

    description: Description

    def values(self) -> Arrays:
        """Return all parameters and buffers."""

    def load(self, arrays: Arrays) -> None:
        """Set the named parameters and buffers; others stay."""

    def vary(self, nudge: float = 0.0, uniform: float = MIDDLE) -> None:
        """Change what takes the place of rounding and of random numbers, in all passes from now on.

        Constants that the model holds in float32 are moved by the fraction `nudge`, each up or down;
        `uniform` is every uniform random number.
        """

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

        Random numbers are replaced by constants, see `graph.Draw`. With edits, the recorded operations
        are run again: the places stay, and results before the first edit keep their fingerprints.
        """

    def run(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        edits: Sequence[Edit] = (),
    ) -> Pass:
        """Run the model forward and backward; buffers stay as they are.

        `weights` are the factors of the outputs in the loss, by path, each in its output's shape.
        With edits, the recorded operations are run again, and gradients that the model defines itself
        are those of its operations.
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

    def lane(
        self,
        inputs: Inputs,
        training: bool,
        weights: Mapping[str, np.ndarray],
        precision: Precision,
        compiled: bool,
    ) -> Pass:
        """Run the model forward and backward as its users would run it; it stays as it is.

        Parameters and inputs are cast to the precision, and results back to float64. Nothing is lifted,
        and random numbers are the framework's own. Compiled or not: see `Description.modes`.
        """
