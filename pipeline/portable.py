"""Everything that a run is at a step, in plain NumPy with canonical names and layouts.

Canonical means torch's: `conv1.weight` in OIHW, dense weights `[out, in]`. A backend offers
`to_portable` and `from_portable`; the shared initialisation, resuming, converting and comparing come
out of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Batch statistics, and torch's count of the batches in them, which follows from the run's step.
STATISTICS = ("running_mean", "running_var")
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class PortableState:
    """A run at a step.

    Args:
        step: optimizer updates done; the data position and the schedule follow from it.
        parameters: by canonical name.
        buffers: batch statistics, by canonical name.
        slots: optimizer state: slot name (`exp_avg`, `momentum_buffer`) to arrays by parameter name.
        averages: exponential averages of the parameters; empty without `train.ema`.
    """

    step: int
    parameters: Arrays
    buffers: Arrays = field(default_factory=dict)
    slots: dict[str, Arrays] = field(default_factory=dict)
    averages: Arrays = field(default_factory=dict)

    @property
    def shapes(self) -> Shapes:
        """Canonical names and shapes of parameters and batch statistics."""
        return {name: array.shape for name, array in (self.parameters | self.buffers).items()}

    def counters(self, accumulate: int) -> Arrays:
        """torch's counts of the batches that its layers with statistics have seen: int64 `[]`.

        Args:
            accumulate: parts of a batch, `train.accumulate`.
        """
        return {
            name.replace(STATISTICS[0], COUNTER): np.full((), self.step * accumulate)
            for name in self.buffers
            if name.endswith(STATISTICS[0])
        }


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    summary = sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        summary.update(f"{name}:{array.dtype}:{array.shape}".encode())
        summary.update(array.tobytes())
    return summary.hexdigest()
