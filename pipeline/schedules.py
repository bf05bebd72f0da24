"""Learning rates as pure functions of the step, used and logged by both backends."""

from collections.abc import Callable
from math import cos, pi

from pipeline.config import (
    ConstantConfig,
    CosineConfig,
    ScheduleConfig,
    StepConfig,
    WarmupCosineConfig,
)

Schedule = Callable[[int], float]


def schedule(config: ScheduleConfig, total: int) -> Schedule:
    """The factor on `optimizer.lr` for the update that comes after `step` updates.

    Args:
        config: of the `schedule` group.
        total: optimizer updates of the whole run.
    """
    return SCHEDULES[config.name](config, total)


def constant(config: ConstantConfig, total: int) -> Schedule:
    """1 throughout."""
    return lambda step: 1.0


def step(config: StepConfig, total: int) -> Schedule:
    """γ^⌊step / every⌋, as torch's StepLR with the interval in steps."""
    every = max(1, in_steps(config.every, total))
    return lambda step: config.gamma ** (step // every)


def cosine(config: CosineConfig, total: int) -> Schedule:
    """From 1 down to `final` along half a cosine (Loshchilov & Hutter 2017, equation 5)."""
    return lambda step: half_cosine(step / max(1, total), config.final)


def warmup_cosine(config: WarmupCosineConfig, total: int) -> Schedule:
    """A straight line from `start` to 1 over the warm-up, then half a cosine to `final`.

    As optax.warmup_cosine_decay_schedule, whose `decay_steps` includes the warm-up.
    """
    warmup = in_steps(config.warmup, total)

    def factor(step: int) -> float:
        if step < warmup:
            return config.start + (1 - config.start) * step / warmup
        return half_cosine((step - warmup) / max(1, total - warmup), config.final)

    return factor


def half_cosine(progress: float, final: float) -> float:
    """1 at progress 0, `final` at progress 1 and after it."""
    return final + (1 - final) * (1 + cos(pi * min(1.0, progress))) / 2


def in_steps(length: float, total: int) -> int:
    """A length in steps, or below 1 as a share of the run."""
    return round(length * total) if length < 1 else round(length)


SCHEDULES: dict[str, Callable[[ScheduleConfig, int], Schedule]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "warmup_cosine": warmup_cosine,
}
