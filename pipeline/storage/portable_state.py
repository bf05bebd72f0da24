"""State of a run at a step: plain NumPy arrays with canonical names and layouts.

Canonical means torch's: `conv1.weight` in OIHW, dense weights `[out, in]`. A backend offers
`to_portable` and `from_portable`; initialisation, resuming, converting and comparing all use them.
"""

from dataclasses import dataclass, field

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Running statistics, and torch's `num_batches_tracked`; it follows from the step.
STATISTICS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class PortableState:
    """State of a run at a step; all arrays by canonical names of parameters or running statistics."""

    step: int  # optimizer updates done; the data position and the schedule follow from it
    parameters: Arrays
    buffers: Arrays = field(default_factory=dict)  # running statistics
    # Optimizer state by the name of its slot: `exp_avg`, `momentum_buffer`.
    slots: dict[str, Arrays] = field(default_factory=dict)
    # Exponential moving averages of the parameters; empty without `train.ema`.
    averages: Arrays = field(default_factory=dict)

    @property
    def shapes(self) -> Shapes:
        """Canonical names and shapes of parameters and running statistics."""
        return {name: array.shape for name, array in (self.parameters | self.buffers).items()}

    def counters(self, accumulate: int) -> Arrays:
        """Return torch's batch counts of the layers with running statistics: int64 `[]`.

        `accumulate` is `train.accumulate`, the number of micro-batches of a batch.
        """
        return {
            name.replace(STATISTICS[0], COUNTER): np.full((), self.step * accumulate)
            for name in self.buffers
            if name.endswith(STATISTICS[0])
        }


def state_of_weights(weights: Arrays, step: int = 0) -> PortableState:
    """Return the state of which only weights are known: running statistics go by their names."""
    others = (*STATISTICS, COUNTER)
    buffers = {name: array for name, array in weights.items() if name.endswith(STATISTICS)}
    parameters = {name: array for name, array in weights.items() if not name.endswith(others)}
    return PortableState(step, parameters, buffers)
