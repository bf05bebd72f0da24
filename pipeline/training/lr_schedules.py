"""Learning-rate schedules as pure functions of the step, used and logged by both backends.

Names and definitions are those of torch.optim.lr_scheduler, but lengths are in steps or fractions of
the run. `plateau` depends on more than the step: see reduce_on_plateau.py.
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from math import cos, pi

from pipeline.config import schedules
from pipeline.training.own_schedule import own

Schedule = Callable[[int], float]


def make_schedule(config: schedules.ScheduleConfig, total: int) -> Schedule:
    """Return the factor on `optimizer.lr` as a function of the number of updates done.

    A linear warm-up from `start` leads to the first value of the named schedule, which then runs over
    the remaining steps, as in torch's SequentialLR. `total` is the number of updates of the whole run.
    """
    warmup = to_steps(config.warmup, total)
    main = SCHEDULES[config.name](config, max(1, total - warmup))
    peak = main(0)

    def factor(step: int) -> float:
        if step < warmup:
            return linear_between(config.start, peak, step, warmup)
        return main(step - warmup)

    return factor


def constant(config: schedules.ConstantConfig | schedules.PlateauConfig, total: int) -> Schedule:
    """1 throughout."""
    return lambda step: 1.0


def linear(config: schedules.LinearScheduleConfig, total: int) -> Schedule:
    """Linear from `initial` to `final`, as torch's LinearLR over the whole run."""
    return lambda step: linear_between(config.initial, config.final, step, total)


def step(config: schedules.StepConfig, total: int) -> Schedule:
    """γ^⌊step / every⌋, as torch's StepLR with the interval in steps."""
    every = max(1, to_steps(config.every, total))
    return lambda step: config.gamma ** (step // every)


def multistep(config: schedules.MultiStepConfig, total: int) -> Schedule:
    """γ to the power of the number of milestones reached, as torch's MultiStepLR."""
    milestones = sorted(max(1, to_steps(length, total)) for length in config.milestones)
    return lambda step: config.gamma ** bisect_right(milestones, step)


def exponential(config: schedules.ExponentialConfig, total: int) -> Schedule:
    """γ^(step / every); torch's ExponentialLR if `every` is 1."""
    every = max(1, to_steps(config.every, total))
    return lambda step: config.gamma ** (step / every)


def polynomial(config: schedules.PolynomialConfig, total: int) -> Schedule:
    """From 1 to `final` by a power of the remaining fraction, as optax.polynomial_schedule and torch's
    PolynomialLR (whose `final` is 0).
    """
    return lambda step: linear_between(
        config.final, 1.0, max(0.0, 1 - step / total) ** config.power, 1
    )


def cosine(config: schedules.CosineConfig, total: int) -> Schedule:
    """From 1 to `final` along half a cosine, `cycles` times (Loshchilov & Hutter 2017, equation 5).

    As torch's CosineAnnealingLR and CosineAnnealingWarmRestarts, with `cycle_factor` as T_mult. The
    cycles fill the run and begin at the nearest whole step.
    """
    lengths = [config.cycle_factor**cycle for cycle in range(config.cycles)]
    ends = [round(total * end / sum(lengths)) for end in accumulate(lengths)]
    begins = [0, *ends[:-1]]

    def factor(step: int) -> float:
        cycle = bisect_right(begins, step) - 1
        return cosine_between(1.0, config.final, step - begins[cycle], ends[cycle] - begins[cycle])

    return factor


def one_cycle(config: schedules.OneCycleConfig, total: int) -> Schedule:
    """Up to 1, then down to almost 0 (Smith & Topin 2018), as torch's OneCycleLR with two phases.

    The momentum is constant, as with torch's cycle_momentum=False.
    """
    between = cosine_between if config.anneal is schedules.Anneal.cos else linear_between
    first = 1 / config.div_factor
    last = first / config.final_div_factor
    top = config.pct_start * total - 1  # usually between two steps

    def factor(step: int) -> float:
        if step <= top:
            return between(first, 1.0, step, top)
        return between(1.0, last, step - top, total - 1 - top)

    return factor


def linear_between(start: float, end: float, done: float, length: float) -> float:
    """Linear from `start` at `done` = 0 to `end` at `length`, and constant after it."""
    return start + (end - start) * done / length if done < length else end


def cosine_between(start: float, end: float, done: float, length: float) -> float:
    """Half a cosine from `start` at `done` = 0 to `end` at `length`, and constant after it."""
    return end + (start - end) * (1 + cos(pi * (done / length))) / 2 if done < length else end


def to_steps(length: float, total: int) -> int:
    """Convert a length to steps; below 1 it is a fraction of the run."""
    return round(length * total) if length < 1 else round(length)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
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
    "own": own,
}
