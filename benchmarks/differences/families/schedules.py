"""Learning-rate schedules, from 1.0: the rate of each step."""

from benchmarks.differences.plays.schedules import plateau, rates
from benchmarks.differences.row import Play, Row

STEPS = rates(60)


def schedule(
    key: str,
    title: str,
    torch: str,
    optax: str,
    closed: str = "",
    play: Play = STEPS,
) -> Row:
    """Make the row of a schedule; torch's is given the optimizer, whose rate is 1."""
    return Row(key=key, title=title, torch=f"lr_scheduler.{torch}", optax=f"optax.{optax}",
               closed=closed, play=play, seeds=(0,))  # fmt: skip


ROWS = [
    schedule("schedule-step", "Steps, every ten", "StepLR(optimizer, 10, 0.5)",
             "exponential_decay(1.0, 10, 0.5, staircase=True)"),
    schedule("schedule-multistep", "Steps at given places: which step is the first of the new rate",
             "MultiStepLR(optimizer, [10, 30], 0.1)",
             "piecewise_constant_schedule(1.0, {10: 0.1, 30: 0.1})"),
    schedule("schedule-exponential", "Exponential", "ExponentialLR(optimizer, 0.9)",
             "exponential_decay(1.0, 1, 0.9)"),
    schedule("schedule-linear", "Linear", "LinearLR(optimizer, 0.25, 1.0, total_iters=40)",
             "linear_schedule(0.25, 1.0, 40)"),
    schedule("schedule-polynomial", "Polynomial", "PolynomialLR(optimizer, 40, power=2.0)",
             "polynomial_schedule(1.0, 0.0, 2.0, 40)"),
    schedule("schedule-cosine", "Cosine", "CosineAnnealingLR(optimizer, 60)",
             "cosine_decay_schedule(1.0, 60)"),
    schedule("schedule-cosine-after", "Cosine, after its end", "CosineAnnealingLR(optimizer, 40)",
             "cosine_decay_schedule(1.0, 40)",
             "lambda step: 0.5 * (1 + jnp.cos(jnp.pi * step / 40))"),
    schedule("schedule-cosine-final", "Cosine: the last rate as a number or as a share",
             "CosineAnnealingLR(optimizer, 60, eta_min=0.1)", "cosine_decay_schedule(1.0, 60)",
             "alpha=0.1"),
    schedule("schedule-warm-restarts", "Cosine with warm restarts",
             "CosineAnnealingWarmRestarts(optimizer, 20)",
             "sgdr_schedule([dict(init_value=1.0, peak_value=1.0, warmup_steps=0, decay_steps=20)] * 3)"),
    schedule("schedule-warmup", "Warm-up: does it count in the length of the cosine",
             "SequentialLR(optimizer, [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10), "
             "lr_scheduler.CosineAnnealingLR(optimizer, 50)], [10])",
             "warmup_cosine_decay_schedule(0.1, 1.0, 10, decay_steps=50)", "decay_steps=60"),
    schedule("schedule-join", "One schedule after another: the second counts from its own start",
             "SequentialLR(optimizer, [lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=10), "
             "lr_scheduler.ExponentialLR(optimizer, 0.9)], [10])",
             "join_schedules([optax.constant_schedule(0.5), optax.exponential_decay(1.0, 1, 0.9)], [10])"),
    schedule("schedule-onecycle", "One cycle, cosine: length, place of the peak, last rate",
             "OneCycleLR(optimizer, 1.0, total_steps=60)", "cosine_onecycle_schedule(60, 1.0)",
             "optax.piecewise_interpolate_schedule('cosine', 0.04, {17: 25, 59: 4e-6})"),
    schedule("schedule-onecycle-linear", "One cycle, linear: three phases or two",
             "OneCycleLR(optimizer, 1.0, total_steps=60, anneal_strategy='linear')",
             "linear_onecycle_schedule(60, 1.0)",
             "optax.piecewise_interpolate_schedule('linear', 0.04, {17: 25, 59: 4e-6})"),
    Row(key="schedule-plateau", title="Less when the loss is on a plateau",
        torch="lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)",
        optax="optax.contrib.reduce_on_plateau(patience=3)", closed="patience=4", play=plateau),
]  # fmt: skip
