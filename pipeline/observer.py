"""Looking into a training step: what a backend shows of it to whoever watches, in NumPy.

Nobody watches an ordinary run. `pipeline.parity` watches two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.portable import Arrays, PortableState


@dataclass
class Trace:
    """What one training step was made of; canonical names, and torch's layouts where a kind has one.

    Args:
        step: optimizer updates done after it; 0 for the run before its first.
        batch: `inputs` and `targets`, as the model and the loss got them.
        forward: modules' inputs and outputs (`conv1 input`, `conv1 output`), in the order of execution;
            called again, a module's are `conv1#2 input`, …
        values: sums of the batch, then the gradients' norm.
        learning_rate: of the update.
        gradients: by parameter, before clipping.
        clipped: the same after it.
        state: the whole run after the update.
    """

    step: int
    batch: Arrays = field(default_factory=dict)
    forward: Arrays = field(default_factory=dict)
    values: np.ndarray | None = None
    learning_rate: float = 0.0
    gradients: Arrays = field(default_factory=dict)
    clipped: Arrays = field(default_factory=dict)
    state: PortableState | None = None


class Observer:
    """Looks away. Whoever wants to see more overrides this."""

    watching = False

    def begins(self, state: PortableState) -> PortableState:
        """The run at step 0, before its weights are loaded; what is returned is loaded instead."""
        return state

    def stepped(self, trace: Trace) -> None:
        """A step has been done; only called while `watching`."""

    def evaluated(self, step: int, sums: Mapping[str, float]) -> None:
        """The validation set has been evaluated after `step`; sums by the names of `metrics.SUMS`."""
