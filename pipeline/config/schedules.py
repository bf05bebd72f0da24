"""The `schedule` group. Lengths and positions are in steps, or below 1 a fraction of the run.

After a warm-up the schedule runs over the remaining steps.
"""

from enum import Enum
from typing import Any

from omegaconf import MISSING

from pipeline.config.fields import ConfigGroup, option


class Anneal(Enum):
    cos = "cos"
    linear = "linear"


class ThresholdMode(Enum):
    rel = "rel"
    abs = "abs"


class ScheduleConfig(ConfigGroup, key="schedule"):
    name: str = option(MISSING, "the schedule's name in pipeline/training/lr_schedules.py")
    warmup: float = option(
        0.0, "steps of linear warm-up; below 1: a fraction of the run", "0 or more"
    )
    start: float = option(
        0.01, "learning rate at step 0 of a warm-up, over optimizer.lr", "in [0, 1]"
    )


class ConstantConfig(ScheduleConfig):
    name: str = "constant"


class StepConfig(ScheduleConfig):
    name: str = "step"
    every: float = option(
        0.33, "steps between two drops; below 1: a fraction of the run", "above 0"
    )
    gamma: float = option(0.1, "factor at each drop", "in (0, 1]")


class MultiStepConfig(ScheduleConfig):
    name: str = "multistep"
    # He et al. 2016, section 4.2, on CIFAR-10: after 32k and 48k of 64k steps.
    milestones: list[float] = option(
        [0.5, 0.75], "steps of the drops; below 1: fractions of the run", "numbers above 0"
    )
    gamma: float = option(0.1, "factor at each drop", "in (0, 1]")


class ExponentialConfig(ScheduleConfig):
    name: str = "exponential"
    every: float = option(
        0.33, "steps per factor of gamma; below 1: a fraction of the run", "above 0"
    )
    gamma: float = option(0.1, "factor over that many steps", "in (0, 1]")


class DecayConfig(ScheduleConfig):
    """A schedule that reaches `final` at the end of the run."""

    final: float = option(0.0, "learning rate at the end, over optimizer.lr", "0 or more")


class LinearScheduleConfig(DecayConfig):
    name: str = "linear"
    initial: float = option(1.0, "learning rate after the warm-up, over optimizer.lr", "0 or more")


class PolynomialConfig(DecayConfig):
    name: str = "polynomial"
    power: float = option(1.0, "exponent of the decay; 1: linear", "above 0")


class CosineConfig(DecayConfig):
    name: str = "cosine"
    cycles: int = option(
        1, "cosine decays over the run, each but the first a warm restart", "in 1 … 100"
    )
    cycle_factor: float = option(1.0, "length of a cycle divided by the one before", "in [1, 10]")


class WarmupCosineConfig(CosineConfig):
    name: str = "warmup_cosine"
    warmup: float = 0.1


class OneCycleConfig(ScheduleConfig):
    """The defaults are those of torch's OneCycleLR; optimizer.lr is its `max_lr`."""

    name: str = "one_cycle"
    pct_start: float = option(0.3, "fraction of the run up to the peak, optimizer.lr", "in [0, 1]")
    div_factor: float = option(25.0, "peak divided by the learning rate at step 0", "1 or more")
    final_div_factor: float = option(
        1e4, "learning rate at step 0 divided by the last", "1 or more"
    )
    anneal: Anneal = option(Anneal.cos, "shape of the rise and of the fall: cos or linear")


class PlateauConfig(ScheduleConfig):
    """The defaults are those of torch's ReduceLROnPlateau."""

    name: str = "plateau"
    factor: float = option(0.1, "factor when val/accuracy (or loss) stops improving", "in (0, 1)")
    patience: int = option(10, "evaluations without improvement that are tolerated", "0 or more")
    threshold: float = option(1e-4, "smallest improvement that counts", "0 or more")
    threshold_mode: ThresholdMode = option(
        ThresholdMode.rel, "threshold as a fraction of the best value (rel) or as it is (abs)"
    )
    cooldown: int = option(
        0, "evaluations after a drop that do not count against patience", "0 or more"
    )
    min_factor: float = option(0.0, "lowest learning rate, over optimizer.lr", "in [0, 1]")


class OwnScheduleConfig(ScheduleConfig):
    """A user's own schedule, one function for both backends."""

    name: str = "own"
    function: str | None = option(
        None, "your function of (step, total) that gives the factor on optimizer.lr, as module:name"
    )
    options: dict[str, Any] = option({}, "more arguments of the function")


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
    "own": OwnScheduleConfig,
}
