"""The `schedule` group."""

from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.config.fields import option, require


@dataclass(kw_only=True)
class ScheduleConfig:
    name: str = option(MISSING, "the schedule's name in pipeline/schedules.py")


@dataclass(kw_only=True)
class ConstantConfig(ScheduleConfig):
    name: str = "constant"


@dataclass(kw_only=True)
class StepConfig(ScheduleConfig):
    name: str = "step"
    every: float = option(0.33, "steps between two drops; below 1: as a share of the run")
    gamma: float = option(0.1, "factor at each drop")

    def __post_init__(self) -> None:
        require(self.every > 0, "schedule.every", self.every, "above 0")


@dataclass(kw_only=True)
class CosineConfig(ScheduleConfig):
    name: str = "cosine"
    final: float = option(0.0, "learning rate at the end, as a share of optimizer.lr")


@dataclass(kw_only=True)
class WarmupCosineConfig(CosineConfig):
    name: str = "warmup_cosine"
    warmup: float = option(0.1, "steps of linear warm-up; below 1: as a share of the run")
    start: float = option(0.01, "learning rate at step 0, as a share of optimizer.lr")

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "schedule.warmup", self.warmup, "0 or more")


SCHEDULES = {
    "constant": ConstantConfig,
    "step": StepConfig,
    "cosine": CosineConfig,
    "warmup_cosine": WarmupCosineConfig,
}
