"""Regression: one or more numbers for each sample."""

from collections.abc import Mapping

import numpy as np

from pipeline.tasks.task import Shapes, Task


class Regression(Task):
    """Mean squared error, over samples and outputs, of the predictions and `target` `[batch, outputs]`."""

    name = "regression"
    targets = ("target",)
    needs = ("target [outputs]",)
    # Deviations of the targets are from the training set's mean, so that r2 keeps its precision.
    sums = ("loss", "absolute_error", "deviation", "squared_deviation")
    one_row = True
    has_predictions = True
    monitor = "loss"
    maximized = frozenset({"r2"})

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the width of the target."""
        return shapes["target"][-1]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the loss, which is the mse, the mae, and r2 pooled over the outputs."""
        loss, values = sums["loss"] / self.terms(shapes), self.values(shapes)
        variation = sums["squared_deviation"] - sums["deviation"] ** 2 / values
        return {
            "loss": loss,
            "mse": loss,
            "mae": sums["absolute_error"] / values,
            "r2": 1 - loss * values / variation if variation > 0 else float("nan"),
        }

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the targets."""
        return shapes["target"]


def center(targets: np.ndarray) -> np.ndarray:
    """Return the mean of the training targets, from which deviations are taken: float64 [outputs]."""
    return np.asarray(targets, dtype=np.float64).mean(axis=0)
