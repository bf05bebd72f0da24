"""The one schedule with a memory: a learning rate that falls where the metric stands still.

It is asked from Python on both backends, after each evaluation, so that both see a fall at the very
next update. torch's ReduceLROnPlateau is the reference; optax's, inside the transformation, judges
after updates instead.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

from pipeline.config import OptimizerConfig, PlateauConfig, ScheduleConfig, ThresholdMode

EPS = 1e-8  # a fall of the learning rate by less is left out, as torch's `eps` has it


class Steady:
    """What every other schedule remembers: nothing.

    Attributes:
        factor: on the learning rate that the schedule gives.
    """

    factor: float = 1.0

    def judge(self, value: float) -> None:
        """Take note of the monitored metric after an evaluation."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this, as plain containers."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""


class Plateau(Steady):
    """torch.optim.lr_scheduler.ReduceLROnPlateau, of a factor on the learning rate.

    Evaluations during a warm-up are judged, too.

    Args:
        config: of the schedule.
        mode: `max` or `min`: whether more of the metric is better.
        lr: that the factor is on.
    """

    def __init__(self, config: PlateauConfig, mode: str, lr: float) -> None:
        self.config, self.mode, self.lr = config, mode, lr
        self.factor = 1.0
        self.best: float | None = None
        self.stale = 0  # evaluations without a better value
        self.resting = 0  # evaluations of the cooldown that are left

    def judge(self, value: float) -> None:
        """Take note of the monitored metric after an evaluation; NaN is no better than anything."""
        if self.improves(value):
            self.best, self.stale = value, 0
        else:
            self.stale += 1
        if self.resting > 0:
            self.resting -= 1
            self.stale = 0
        if self.stale > self.config.patience:
            factor = max(self.factor * self.config.factor, self.config.min_factor)
            if self.lr * (self.factor - factor) > EPS:
                self.factor = factor
            self.resting, self.stale = self.config.cooldown, 0

    def improves(self, value: float) -> bool:
        """Whether `value` is better than the best by the threshold."""
        sign = 1 if self.mode == "max" else -1
        best = -sign * inf if self.best is None else self.best
        if self.config.threshold_mode is ThresholdMode.rel:
            limit = best * (1 + sign * self.config.threshold)
        else:
            limit = best + sign * self.config.threshold
        return value > limit if self.mode == "max" else value < limit

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this, as plain containers."""
        return {
            "factor": self.factor,
            "best": self.best,
            "stale": self.stale,
            "resting": self.resting,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; from the beginning where it was another schedule's."""
        for name, value in state.items():
            setattr(self, name, value)


def plateau(schedule: ScheduleConfig, optimizer: OptimizerConfig, mode: str) -> Steady:
    """The memory of a run's schedule.

    Args:
        schedule: config of the group.
        optimizer: whose learning rate it is.
        mode: `max` or `min`: whether more of the monitored metric is better.
    """
    if isinstance(schedule, PlateauConfig):
        return Plateau(schedule, mode, optimizer.lr)
    return Steady()
