"""The `schedule` group. Lengths and places are in steps, or below 1 a share of the run.

After a warm-up a schedule begins anew: what it counts are the steps that the warm-up has left.
"""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from pipeline.config.fields import option, require


class Anneal(Enum):
    cos = "cos"
    linear = "linear"


class ThresholdMode(Enum):
    rel = "rel"
    abs = "abs"


@dataclass(kw_only=True)
class ScheduleConfig:
    name: str = option(MISSING, "the schedule's name in pipeline/schedules.py")
    warmup: float = option(0.0, "steps of linear warm-up; below 1: as a share of the run")
    start: float = option(0.01, "learning rate at step 0 of a warm-up, as a share of optimizer.lr")

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "schedule.warmup", self.warmup, "0 or more")
        require(0 <= self.start <= 1, "schedule.start", self.start, "in [0, 1]")


@dataclass(kw_only=True)
class ConstantConfig(ScheduleConfig):
    name: str = "constant"


@dataclass(kw_only=True)
class StepConfig(ScheduleConfig):
    name: str = "step"
    every: float = option(0.33, "steps between two drops; below 1: as a share of the run")
    gamma: float = option(0.1, "factor at each drop")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.every > 0, "schedule.every", self.every, "above 0")
        require_gamma(self.gamma)


@dataclass(kw_only=True)
class MultiStepConfig(ScheduleConfig):
    name: str = "multistep"
    # Of He et al. 2016, section 4.2, on CIFAR-10: after 32k and 48k of 64k steps.
    milestones: list[float] = option(
        [0.5, 0.75], "steps at which it drops; below 1: as shares of the run"
    )
    gamma: float = option(0.1, "factor at each drop")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            all(milestone > 0 for milestone in self.milestones),
            "schedule.milestones",
            self.milestones,
            "numbers above 0",
        )
        require_gamma(self.gamma)


@dataclass(kw_only=True)
class ExponentialConfig(ScheduleConfig):
    name: str = "exponential"
    every: float = option(0.33, "steps in which it falls by gamma; below 1: as a share of the run")
    gamma: float = option(0.1, "factor over that many steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.every > 0, "schedule.every", self.every, "above 0")
        require_gamma(self.gamma)


@dataclass(kw_only=True)
class DecayConfig(ScheduleConfig):
    """A schedule that comes to `final` at the end of the run."""

    final: float = option(0.0, "learning rate at the end, as a share of optimizer.lr")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.final >= 0, "schedule.final", self.final, "0 or more")


@dataclass(kw_only=True)
class LinearScheduleConfig(DecayConfig):
    name: str = "linear"
    initial: float = option(1.0, "learning rate at its begin, as a share of optimizer.lr")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.initial >= 0, "schedule.initial", self.initial, "0 or more")


@dataclass(kw_only=True)
class PolynomialConfig(DecayConfig):
    name: str = "polynomial"
    power: float = option(1.0, "of the share of the run that is left; 1 is a straight line")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.power > 0, "schedule.power", self.power, "above 0")


@dataclass(kw_only=True)
class CosineConfig(DecayConfig):
    name: str = "cosine"
    cycles: int = option(1, "falls over the run; each but the first begins with a restart")
    cycle_factor: float = option(1.0, "length of a cycle over that of the one before")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.cycles <= 100, "schedule.cycles", self.cycles, "in 1 … 100")
        require(
            1 <= self.cycle_factor <= 10,
            "schedule.cycle_factor",
            self.cycle_factor,
            "in [1, 10]",
        )


@dataclass(kw_only=True)
class WarmupCosineConfig(CosineConfig):
    name: str = "warmup_cosine"
    warmup: float = option(0.1, "steps of linear warm-up; below 1: as a share of the run")


@dataclass(kw_only=True)
class OneCycleConfig(ScheduleConfig):
    """The defaults are those of torch's OneCycleLR; optimizer.lr is its `max_lr`."""

    name: str = "one_cycle"
    pct_start: float = option(0.3, "share of the run in which it rises to optimizer.lr, its peak")
    div_factor: float = option(25.0, "the peak over the learning rate at step 0")
    final_div_factor: float = option(1e4, "that at step 0 over that of the last step")
    anneal: Anneal = option(Anneal.cos, "shape of the rise and of the fall: cos or linear")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.pct_start <= 1, "schedule.pct_start", self.pct_start, "in [0, 1]")
        for name in ("div_factor", "final_div_factor"):
            value = getattr(self, name)
            require(value >= 1, f"schedule.{name}", value, "1 or more")


@dataclass(kw_only=True)
class PlateauConfig(ScheduleConfig):
    """The defaults are those of torch's ReduceLROnPlateau."""

    name: str = "plateau"
    factor: float = option(0.1, "on the learning rate where val/accuracy (or loss) stands still")
    patience: int = option(10, "evaluations without a better value that are let pass")
    threshold: float = option(1e-4, "by how much a value must be better to count")
    threshold_mode: ThresholdMode = option(
        ThresholdMode.rel, "what the threshold is: rel, a share of the best value; or abs"
    )
    cooldown: int = option(0, "evaluations after a drop that are not judged")
    min_factor: float = option(0.0, "never below this share of optimizer.lr")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.factor < 1, "schedule.factor", self.factor, "in (0, 1)")
        for name in ("patience", "threshold", "cooldown"):
            value = getattr(self, name)
            require(value >= 0, f"schedule.{name}", value, "0 or more")
        require(0 <= self.min_factor <= 1, "schedule.min_factor", self.min_factor, "in [0, 1]")


def require_gamma(gamma: float) -> None:
    """A drop is one."""
    require(0 < gamma <= 1, "schedule.gamma", gamma, "in (0, 1]")


SCHEDULES = {
    "constant": ConstantConfig,
    "linear": LinearScheduleConfig,
    "step": StepConfig,
    "multistep": MultiStepConfig,
    "exponential": ExponentialConfig,
    "polynomial": PolynomialConfig,
    "cosine": CosineConfig,
    "warmup_cosine": WarmupCosineConfig,
    "one_cycle": OneCycleConfig,
    "plateau": PlateauConfig,
}
