"""Observer of training steps: a backend passes it each step as NumPy arrays.

Only `pipeline.parity` and `mode=look` use one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.storage.portable_state import Arrays, PortableState

MASK = "mask"  # kind of a draw


@dataclass(frozen=True)
class LayerDraw:
    """Random numbers that a layer draws by itself in a training step.

    Constants took their place, but for a mask that is drawn by the name of its layer.
    """

    kind: str  # `bernoulli`, `normal`, `uniform`, `mask`, or the framework's name of another
    number: float  # a Bernoulli's or a mask's probability to be one: 1 - rate of a dropout
    size: int  # how many
    layer: str


@dataclass
class Trace:
    """Values of one training step, with canonical names and torch's layouts.

    `forward` has the inputs and outputs of modules (`conv1 input`, `conv1 output`), in the order of
    execution; a second call of a module has `conv1#2 input`, …
    """

    step: int  # optimizer updates done, this one included; 0: before the first
    state: PortableState  # after the update
    batch: Arrays = field(default_factory=dict)  # the fields, as the model and the loss take them
    forward: Arrays = field(default_factory=dict)
    # Sums of the batch by `Task.sums`, then the gradient norm.
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    terms: int = 1  # of the mean loss of the batch
    learning_rate: float = 0.0
    gradients: Arrays = field(default_factory=dict)  # before clipping
    clipped: Arrays = field(default_factory=dict)  # gradients after clipping
    draws: tuple[LayerDraw, ...] = ()  # of a user's own model, in its last micro-batch
    narrow: str = ""  # in fp64 the first layer of a user's own model that makes float32


class Observer:
    """An observer that ignores all events; subclasses override what they need."""

    watching = False  # True if `stepped` must be called
    compares = False  # True if random numbers that a model draws by itself become constants

    def begins(self, state: PortableState) -> PortableState:
        """Return the state to load at step 0, given the initialized one."""
        return state

    def stepped(self, trace: Trace) -> None:
        """Receive a step; called only if `watching`."""

    def evaluated(self, step: int, sums: Mapping[str, float]) -> None:
        """Receive the sums of the validation set after `step`, by the names of `Task.sums`."""
