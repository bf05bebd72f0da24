"""The stateful schedule: reduce the learning rate when the monitored metric stops improving.

Both backends step it from Python after each evaluation, so a reduction takes effect at the next
update. The reference is torch's ReduceLROnPlateau; optax's steps after updates instead.
"""

from collections.abc import Mapping
from math import inf

from pipeline.config.optimizers import OptimizerConfig
from pipeline.config.schedules import PlateauConfig, ScheduleConfig, ThresholdMode

EPS = 1e-8  # smaller reductions of the learning rate are skipped, as by torch's `eps`


class NoPlateau:
    """Plateau of all other schedules: the factor on the learning rate stays 1."""

    factor: float = 1.0

    def step(self, value: float) -> None:
        """Do nothing; `Plateau` updates its factor."""

    def state(self) -> dict[str, float | None]:
        """State for a checkpoint, as JSON."""
        return {}

    def restore(self, state: Mapping[str, float | None]) -> None:
        """Do nothing; there is no state."""


class Plateau(NoPlateau):
    """torch.optim.lr_scheduler.ReduceLROnPlateau as a factor on the learning rate `lr`.

    `mode` is `max` if a higher metric is better, else `min`. Evaluations during a warm-up count too.
    """

    def __init__(self, config: PlateauConfig, mode: str, lr: float) -> None:
        self.config, self.mode, self.lr = config, mode, lr
        self.factor = 1.0
        self.best: float | None = None
        self.stale = 0  # evaluations without a better value
        self.resting = 0  # evaluations left of the cooldown

    def step(self, value: float) -> None:
        """Update the factor with the monitored metric after an evaluation; NaN never improves."""
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
        """Return whether `value` is better than the best by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        best = -sign * inf if self.best is None else self.best
        if self.config.threshold_mode is ThresholdMode.rel:
            limit = best * (1 + sign * self.config.threshold)
        else:
            limit = best + sign * self.config.threshold
        return value > limit if self.mode == "max" else value < limit

    def state(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in ("factor", "best", "stale", "resting")}

    def restore(self, state: Mapping[str, float | None]) -> None:
        # The state of another schedule is empty, and changes nothing.
        for name, value in state.items():
            setattr(self, name, value)


def make_plateau(schedule: ScheduleConfig, optimizer: OptimizerConfig, mode: str) -> NoPlateau:
    """Make the plateau of a run's schedule; `mode` is `max` if a higher metric is better, else `min`."""
    is_plateau = isinstance(schedule, PlateauConfig)
    return Plateau(schedule, mode, optimizer.lr) if is_plateau else NoPlateau()
