"""Metrics from sums over samples, defined once for both backends.

A backend returns the sums of `SUMS`, in that order; this module divides them.
"""

import math
from collections.abc import Mapping

from pipeline.data.dataset import Data, Task

# Quantities that a backend sums over the samples of a batch (in a language task, over their tokens),
# as the first entries of a step's values.
SUMS: dict[Task, tuple[str, ...]] = {
    Task.classification: ("loss", "correct"),
    # Deviations of the targets are from the training set's mean, so that r2 keeps its precision.
    Task.regression: ("loss", "absolute_error", "deviation", "squared_deviation"),
    Task.language: ("loss", "correct"),
}

# Metric that decides which checkpoint is best, and its direction.
MONITOR: dict[Task, tuple[str, str]] = {
    Task.classification: ("val/accuracy", "max"),
    Task.regression: ("val/loss", "min"),
    Task.language: ("val/loss", "min"),
}


def compute_metrics(data: Data, sums: Mapping[str, float], samples: int) -> dict[str, float]:
    """Compute the metrics of `samples` samples from their sums.

    The loss is the mean cross-entropy in nats over samples (classification) or tokens (language), or
    the mean squared error over samples and outputs (regression). r2 is the coefficient of
    determination, pooled over outputs.
    """
    count = samples * data.values_per_sample
    loss = sums["loss"] / count
    if data.task is Task.classification:
        return {"loss": loss, "accuracy": sums["correct"] / count}
    if data.task is Task.language:
        accuracy = sums["correct"] / count
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": accuracy}
    values = count * data.outputs
    variation = sums["squared_deviation"] - sums["deviation"] ** 2 / values
    return {
        "loss": loss,
        "mse": loss,
        "mae": sums["absolute_error"] / values,
        "r2": 1 - loss * values / variation if variation > 0 else float("nan"),
    }


def perplexity(loss: float) -> float:
    """Exponential of a loss; infinity above the range of a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def direction(key: str) -> str:
    """Return `max` if a higher value of a metric such as `val/accuracy` is better, else `min`."""
    return "max" if key.rpartition("/")[2] in ("accuracy", "r2") else "min"


def is_better(value: float, best: float | None, mode: str) -> bool:
    """Return whether `value` strictly improves on `best`; NaN never does."""
    if math.isnan(value):
        return False
    return best is None or (value > best if mode == "max" else value < best)
