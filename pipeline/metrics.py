"""What each logged key means, once for both backends.

A backend returns sums over samples, in the order of `SUMS`; division comes last and comes here.
"""

import math
from collections.abc import Mapping

from pipeline.datasets import Data, Task

# What a backend sums over the samples of a batch, as the first entries of a step's values. In a
# language task over the tokens of all samples.
SUMS: dict[Task, tuple[str, ...]] = {
    Task.classification: ("loss", "correct"),
    # Targets are summed as deviations from the training set's mean, so that r2 keeps its digits.
    Task.regression: ("loss", "absolute_error", "deviation", "squared_deviation"),
    Task.language: ("loss", "correct"),
}

# The metric that says which checkpoint is best, and whether more of it is better.
MONITOR: dict[Task, tuple[str, str]] = {
    Task.classification: ("val/accuracy", "max"),
    Task.regression: ("val/loss", "min"),
    Task.language: ("val/loss", "min"),
}


def summarise(data: Data, sums: Mapping[str, float], samples: int) -> dict[str, float]:
    """Metrics of `samples` samples of a data set from their sums.

    The loss of a classification is the mean cross-entropy in nats, that of a language task the same
    over all tokens, with the perplexity, its exponential; that of a regression is the mean squared
    error over samples and outputs; r2 is the coefficient of determination, pooled over outputs.
    """
    count = samples * data.values_per_sample
    loss = sums["loss"] / count
    if data.task is Task.classification:
        return {"loss": loss, "accuracy": sums["correct"] / count}
    if data.task is Task.language:
        accuracy = sums["correct"] / count
        return {"loss": loss, "perplexity": exponential(loss), "accuracy": accuracy}
    values = count * data.outputs
    variation = sums["squared_deviation"] - sums["deviation"] ** 2 / values
    return {
        "loss": loss,
        "mse": loss,
        "mae": sums["absolute_error"] / values,
        "r2": 1 - loss * values / variation if variation > 0 else float("nan"),
    }


def exponential(value: float) -> float:
    """e to the power of a number; infinity where Python would raise."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def direction(key: str) -> str:
    """Whether more of a metric is better (`max`) or less (`min`), by its key: `val/accuracy`."""
    return "max" if key.rpartition("/")[2] in ("accuracy", "r2") else "min"


def better(value: float, best: float | None, mode: str) -> bool:
    """Whether `value` strictly improves on `best`; NaN never does."""
    if value != value:
        return False
    return best is None or (value > best if mode == "max" else value < best)
