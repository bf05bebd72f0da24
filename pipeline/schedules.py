"""Learning rates as pure functions of the step, used and logged by both backends.

What they are called and mean is torch.optim.lr_scheduler's, but for their lengths: those are in steps
or shares of the run. What depends on more than the step, `plateau`, has its memory in plateau.py.
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from math import cos, pi

from pipeline.config import (
    Anneal,
    ConstantConfig,
    CosineConfig,
    ExponentialConfig,
    LinearScheduleConfig,
    MultiStepConfig,
    OneCycleConfig,
    PlateauConfig,
    PolynomialConfig,
    ScheduleConfig,
    StepConfig,
)

Schedule = Callable[[int], float]


def schedule(config: ScheduleConfig, total: int) -> Schedule:
    """The factor on `optimizer.lr` for the update that comes after `step` updates.

    A straight line from `start` over the warm-up, to where the schedule of the name begins; that one
    then runs over the steps that are left, as torch's SequentialLR has it.

    Args:
        config: of the `schedule` group.
        total: optimizer updates of the whole run.
    """
    warmup = in_steps(config.warmup, total)
    main = SCHEDULES[config.name](config, max(1, total - warmup))
    peak = main(0)

    def factor(step: int) -> float:
        if step < warmup:
            return line(config.start, peak, step, warmup)
        return main(step - warmup)

    return factor


def constant(config: ConstantConfig | PlateauConfig, total: int) -> Schedule:
    """1 throughout."""
    return lambda step: 1.0


def linear(config: LinearScheduleConfig, total: int) -> Schedule:
    """From `initial` to `final`, as torch's LinearLR over the whole run."""
    return lambda step: line(config.initial, config.final, step, total)


def step(config: StepConfig, total: int) -> Schedule:
    """γ^⌊step / every⌋, as torch's StepLR with the interval in steps."""
    every = max(1, in_steps(config.every, total))
    return lambda step: config.gamma ** (step // every)


def multistep(config: MultiStepConfig, total: int) -> Schedule:
    """γ to the number of milestones that are reached, as torch's MultiStepLR."""
    milestones = sorted(max(1, in_steps(length, total)) for length in config.milestones)
    return lambda step: config.gamma ** bisect_right(milestones, step)


def exponential(config: ExponentialConfig, total: int) -> Schedule:
    """γ^(step / every); with `every` at 1 it is torch's ExponentialLR."""
    every = max(1, in_steps(config.every, total))
    return lambda step: config.gamma ** (step / every)


def polynomial(config: PolynomialConfig, total: int) -> Schedule:
    """From 1 to `final` by the power of the share that is left, as torch's PolynomialLR, which has no
    `final`, and optax.polynomial_schedule.
    """
    return lambda step: line(config.final, 1.0, max(0.0, 1 - step / total) ** config.power, 1)


def cosine(config: CosineConfig, total: int) -> Schedule:
    """From 1 to `final` along half a cosine, `cycles` times (Loshchilov & Hutter 2017, equation 5).

    As torch's CosineAnnealingLR and CosineAnnealingWarmRestarts, `cycle_factor` being its T_mult. The
    cycles fill the run; where it does not split so, they begin at the nearest whole step.
    """
    lengths = [config.cycle_factor**cycle for cycle in range(config.cycles)]
    ends = [round(total * end / sum(lengths)) for end in accumulate(lengths)]
    begins = [0, *ends[:-1]]

    def factor(step: int) -> float:
        cycle = bisect_right(begins, step) - 1
        return arc(1.0, config.final, step - begins[cycle], ends[cycle] - begins[cycle])

    return factor


def one_cycle(config: OneCycleConfig, total: int) -> Schedule:
    """Up to 1 and down to next to nothing (Smith & Topin 2018), as torch's OneCycleLR of two phases.

    Of the learning rate only: the momentum stays, as with torch's cycle_momentum=False.
    """
    between = {Anneal.cos: arc, Anneal.linear: line}[config.anneal]
    first = 1 / config.div_factor
    last = first / config.final_div_factor
    top = config.pct_start * total - 1  # between two steps, mostly

    def factor(step: int) -> float:
        if step <= top:
            return between(first, 1.0, step, top)
        return between(1.0, last, step - top, total - 1 - top)

    return factor


def line(start: float, end: float, done: float, length: float) -> float:
    """`start` where nothing is done, in a straight line to `end`, where it stays."""
    return start + (end - start) * done / length if done < length else end


def arc(start: float, end: float, done: float, length: float) -> float:
    """`start` where nothing is done, along half a cosine to `end`, where it stays."""
    return end + (start - end) * (1 + cos(pi * (done / length))) / 2 if done < length else end


def in_steps(length: float, total: int) -> int:
    """A length in steps, or below 1 as a share of the run."""
    return round(length * total) if length < 1 else round(length)


SCHEDULES: dict[str, Callable[[ScheduleConfig, int], Schedule]] = {
    "constant": constant,
    "linear": linear,
    "step": step,
    "multistep": multistep,
    "exponential": exponential,
    "polynomial": polynomial,
    "cosine": cosine,
    "warmup_cosine": cosine,
    "one_cycle": one_cycle,
    "plateau": constant,
}
