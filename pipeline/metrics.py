"""What each logged key means, once for both backends.

A backend returns sums over samples, in the order of `SUMS`; division comes last and comes here.
"""

from collections.abc import Mapping

from pipeline.datasets import Task

# What a backend sums over the samples of a batch, as the first entries of a step's values.
SUMS: dict[Task, tuple[str, ...]] = {
    Task.classification: ("loss", "correct"),
    # Targets are summed as deviations from the training set's mean, so that r2 keeps its digits.
    Task.regression: ("loss", "absolute_error", "deviation", "squared_deviation"),
}

# The metric that says which checkpoint is best, and whether more of it is better.
MONITOR: dict[Task, tuple[str, str]] = {
    Task.classification: ("val/accuracy", "max"),
    Task.regression: ("val/loss", "min"),
}


def summarise(task: Task, sums: Mapping[str, float], count: int, outputs: int) -> dict[str, float]:
    """Metrics of `count` samples from their sums.

    The loss of a classification is the mean cross-entropy in nats, that of a regression the mean
    squared error over samples and outputs; r2 is the coefficient of determination, pooled over outputs.
    """
    loss = sums["loss"] / count
    if task is Task.classification:
        return {"loss": loss, "accuracy": sums["correct"] / count}
    values = count * outputs
    variation = sums["squared_deviation"] - sums["deviation"] ** 2 / values
    return {
        "loss": loss,
        "mse": loss,
        "mae": sums["absolute_error"] / values,
        "r2": 1 - loss * values / variation if variation > 0 else float("nan"),
    }


def better(value: float, best: float | None, mode: str) -> bool:
    """Whether `value` strictly improves on `best`; NaN never does."""
    if value != value:
        return False
    return best is None or (value > best if mode == "max" else value < best)
