"""Sizes and settings of a layer, the same in all frameworks."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.differences.plays.values import QUANTILES

# Layers of torch and Equinox whose channels are the second axis.
CHANNELS_FIRST = (
    "Conv", "MaxPool", "AvgPool", "Adaptive", "BatchNorm", "InstanceNorm", "GroupNorm", "LPPool",
)  # fmt: skip
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Task:
    """Which quantity of a layer is compared, and after how many calls; see `layer`."""

    part: str
    steps: int

    @property
    def scales(self) -> range:
        """Factors of the inputs of each call."""
        return range(1, self.steps + 1)

    @property
    def is_initial(self) -> bool:
        """True if the layer keeps its own initial values."""
        return self.part == "parameters" or self.part.startswith("initial ")

    def of_initial(self, values: Mapping[str, np.ndarray | jax.Array]) -> np.ndarray:
        """Number of parameters, or quantiles of one."""
        if self.part == "parameters":
            return np.array(float(sum(array.size for array in values.values())))
        return np.quantile(np.asarray(values[self.part.removeprefix("initial ")]), QUANTILES)
