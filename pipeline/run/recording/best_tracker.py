"""Best evaluation of a run, early stopping, and learning-rate reductions on a plateau."""

import math

from pipeline.config.experiment import Config
from pipeline.storage.recorder_state import Best, RecorderState
from pipeline.tasks import Task
from pipeline.training.reduce_on_plateau import make_plateau


def is_better(value: float, best: float | None, mode: str) -> bool:
    """Return whether `value` strictly improves on `best`; NaN never does."""
    if math.isnan(value):
        return False
    return best is None or (value > best if mode == "max" else value < best)


class BestTracker:
    """Tracks the best evaluation, early stopping and the plateau schedule.

    Attributes:
        metric: monitored metric, such as `val/accuracy`.
        mode: `max` or `min`, the better direction of the metric.
        plateau: factor on the learning rate by the evaluations so far.
        best: best evaluation so far.
        stale: evaluations since the best one.
    """

    def __init__(self, config: Config, task: Task) -> None:
        self.metric = config.train.monitor or f"val/{task.monitor}"
        self.mode = task.direction(self.metric)
        self.patience = config.train.early_stopping
        self.plateau = make_plateau(config.schedule, config.optimizer, self.mode)
        self.best: Best | None = None
        self.stale = 0

    def add(self, step: int, value: float) -> None:
        """Add the monitored metric of the evaluation after `step`."""
        self.plateau.step(value)
        if is_better(value, self.best.value if self.best else None, self.mode):
            self.best, self.stale = Best(self.metric, value, step), 0
        else:
            self.stale += 1

    @property
    def stopped_early(self) -> bool:
        """True if `train.early_stopping` evaluations have passed without a new best."""
        return self.patience is not None and self.stale >= self.patience

    def restore(self, state: RecorderState) -> None:
        """Continue from a checkpoint."""
        self.best, self.stale = state.best, state.stale
        self.plateau.restore(state.plateau)
