"""Schedules against torch.optim.lr_scheduler, and against optax where it agrees with torch."""

from dataclasses import replace
from math import inf, nan

import jax.numpy as jnp
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from pipeline.config.schedules import (
    Anneal,
    ConstantConfig,
    CosineConfig,
    ExponentialConfig,
    LinearScheduleConfig,
    MultiStepConfig,
    OneCycleConfig,
    PlateauConfig,
    PolynomialConfig,
    StepConfig,
    ThresholdMode,
    WarmupCosineConfig,
)
from pipeline.loggers.metrics_file import read_metrics
from pipeline.training.lr_schedules import make_schedule
from pipeline.training.reduce_on_plateau import Plateau

STEPS = 210
WARMUP = 35

# A schedule; then torch's of the same meaning over so many steps, as (class, keywords).
CASES = {
    "constant": (
        ConstantConfig(),
        lambda steps: (lr_scheduler.ConstantLR, {"factor": 1.0, "total_iters": 0}),
    ),
    "linear down": (
        LinearScheduleConfig(initial=0.9, final=0.1),
        lambda steps: (
            lr_scheduler.LinearLR,
            {"start_factor": 0.9, "end_factor": 0.1, "total_iters": steps},
        ),
    ),
    "linear up": (
        LinearScheduleConfig(initial=0.25, final=1.0),
        lambda steps: (lr_scheduler.LinearLR, {"start_factor": 0.25, "total_iters": steps}),
    ),
    "step": (
        StepConfig(every=30, gamma=0.5),
        lambda steps: (lr_scheduler.StepLR, {"step_size": 30, "gamma": 0.5}),
    ),
    "step of a share": (
        StepConfig(every=0.2),
        lambda steps: (lr_scheduler.StepLR, {"step_size": steps // 5}),
    ),
    "multistep": (
        MultiStepConfig(milestones=[90, 20, 0.4], gamma=0.3),
        lambda steps: (
            lr_scheduler.MultiStepLR,
            {"milestones": [20, 90, steps * 2 // 5], "gamma": 0.3},
        ),
    ),
    "exponential": (
        ExponentialConfig(every=1, gamma=0.97),
        lambda steps: (lr_scheduler.ExponentialLR, {"gamma": 0.97}),
    ),
    "exponential over many steps": (
        ExponentialConfig(every=50, gamma=0.1),
        lambda steps: (lr_scheduler.ExponentialLR, {"gamma": 0.1 ** (1 / 50)}),
    ),
    "polynomial": (
        PolynomialConfig(power=2.5),
        lambda steps: (lr_scheduler.PolynomialLR, {"total_iters": steps, "power": 2.5}),
    ),
    "cosine": (
        CosineConfig(final=0.05),
        lambda steps: (lr_scheduler.CosineAnnealingLR, {"T_max": steps, "eta_min": 0.05}),
    ),
    "cosine with equal cycles": (
        CosineConfig(final=0.05, cycles=5),
        lambda steps: (
            lr_scheduler.CosineAnnealingWarmRestarts,
            {"T_0": steps // 5, "eta_min": 0.05},
        ),
    ),
    "cosine with longer and longer cycles": (
        CosineConfig(cycles=3, cycle_factor=2.0),
        lambda steps: (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": steps // 7, "T_mult": 2}),
    ),
    **{
        f"one cycle, {anneal.name} from {pct_start}": (
            OneCycleConfig(pct_start=pct_start, div_factor=20, final_div_factor=1e3, anneal=anneal),
            lambda steps, pct_start=pct_start, anneal=anneal: (
                lr_scheduler.OneCycleLR,
                {
                    "max_lr": 1.0,
                    "total_steps": steps,
                    "pct_start": pct_start,
                    "anneal_strategy": anneal.name,
                    "div_factor": 20,
                    "final_div_factor": 1e3,
                    "cycle_momentum": False,
                },
            ),
        )
        for anneal in Anneal
        for pct_start in (0.0, 0.3, 0.777, 1.0)
    },
}
# OneCycleLR changes the optimizer's own learning rate, so torch cannot put it in a sequence.
AFTER_A_WARMUP = [name for name in CASES if not name.startswith("one cycle")]


def factors(config, total=STEPS):
    factor = make_schedule(config, total)
    return [factor(step) for step in range(total)]


def optimizer(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def torch_factors(scheduler, total=STEPS):
    """Learning-rate factors of a torch scheduler."""
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(total - 1):
        scheduler.optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    return rates


def worst(found, expected):
    return max(abs(one - other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_schedule_matches_torch(case):
    config, expected = CASES[case]
    kind, keywords = expected(STEPS)
    assert worst(factors(config), torch_factors(kind(optimizer(), **keywords))) < 1e-12


@pytest.mark.parametrize("case", AFTER_A_WARMUP)
@pytest.mark.parametrize("warmup", [WARMUP, WARMUP / STEPS], ids=["steps", "share"])
def test_a_schedule_after_a_warmup_matches_torchs_sequential_scheduler(case, warmup):
    config, expected = CASES[case]
    kind, keywords = expected(STEPS - WARMUP)
    shared = optimizer()
    main = kind(shared, **keywords)
    peak = keywords.get("start_factor", 1.0)  # torch's warm-up knows of no other than 1
    line = lr_scheduler.LinearLR(shared, 0.2, peak, total_iters=WARMUP)
    sequence = lr_scheduler.SequentialLR(shared, [line, main], [WARMUP])
    found = factors(replace(config, warmup=warmup, start=0.2))
    assert worst(found, torch_factors(sequence)) < 1e-12


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from(Anneal))
def test_one_cycle_matches_torch_for_any_length_of_run_and_rise(total, pct_start, anneal):
    if pct_start * total == 1:
        return  # torch divides by zero
    config = OneCycleConfig(pct_start=pct_start, anneal=anneal)
    expected = lr_scheduler.OneCycleLR(
        optimizer(),
        max_lr=1.0,
        total_steps=total,
        pct_start=pct_start,
        anneal_strategy=anneal.name,
        cycle_momentum=False,
    )
    assert worst(factors(config, total), torch_factors(expected, total)) < 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LinearScheduleConfig(final=0.1), optax.linear_schedule(1.0, 0.1, STEPS)),
        (
            MultiStepConfig(milestones=[30, 0.5]),
            optax.piecewise_constant_schedule(1.0, {30: 0.1, STEPS // 2: 0.1}),
        ),
        (StepConfig(every=30), optax.exponential_decay(1.0, 30, 0.1, staircase=True)),
        (ExponentialConfig(every=30), optax.exponential_decay(1.0, 30, 0.1)),
        (
            PolynomialConfig(power=1.7, final=0.1),
            optax.polynomial_schedule(1.0, 0.1, 1.7, STEPS),
        ),
        (CosineConfig(final=0.05), optax.cosine_decay_schedule(1.0, STEPS, 0.05)),
        (
            WarmupCosineConfig(warmup=WARMUP, start=0.2, final=0.05),
            optax.warmup_cosine_decay_schedule(0.2, 1.0, WARMUP, STEPS, 0.05),
        ),
        (
            CosineConfig(cycles=2, cycle_factor=2.0, final=0.05),
            optax.join_schedules(
                [optax.cosine_decay_schedule(1.0, STEPS // 3 * part, 0.05) for part in (1, 2)],
                [STEPS // 3],
            ),
        ),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_a_schedule_matches_optax(config, expected):
    assert worst(factors(config), [float(expected(jnp.asarray(s))) for s in range(STEPS)]) < 1e-12


# --- plateau --------------------------------------------------------------------------------------

PLATEAUS = st.builds(
    PlateauConfig,
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.1, 0.5]),
    threshold_mode=st.sampled_from(ThresholdMode),
    cooldown=st.integers(0, 4),
    min_factor=st.sampled_from([0.0, 1e-3, 0.3]),
)
# Few different values, so that they stand still, and numbers of every size besides.
VALUES = st.lists(
    st.sampled_from([0.5, 0.55, 0.6, 0.6001, -1.0, 0.0, nan, inf, -inf]) | st.floats(-1e3, 1e3),
    max_size=60,
)
MODES = st.sampled_from(["min", "max"])
RATES = st.sampled_from([1.0, 0.1, 1e-3, 1e-6])


@settings(max_examples=300)
@given(PLATEAUS, MODES, RATES, VALUES)
def test_plateau_matches_torch(config, mode, lr, values):
    shared = optimizer(lr)
    expected = lr_scheduler.ReduceLROnPlateau(
        shared,
        mode,
        factor=config.factor,
        patience=config.patience,
        threshold=config.threshold,
        threshold_mode=config.threshold_mode.name,
        cooldown=config.cooldown,
        min_lr=lr * config.min_factor,
    )
    found = Plateau(config, mode, lr)
    for value in values:
        expected.step(value)
        found.step(value)
        assert lr * found.factor == pytest.approx(expected.get_last_lr()[0], rel=1e-12, abs=0)


# val/accuracy on so few samples stands still soon and often.
STANDING = (
    "model=mlp dataset.limit=160 train.batch_size=16 train.steps=60 train.eval_every=4steps "
    "train.precision=fp64 train.log_every=1 optimizer=adamw schedule=plateau schedule.factor=0.5 "
    "schedule.patience=0 schedule.cooldown=1 schedule.warmup=0.1"
)


def column(rows, key):
    return [row[key] for row in rows if key in row]


def test_both_backends_lower_the_learning_rate_at_the_same_updates(run):
    torch_run, jax_run = run(STANDING)
    rates = column(torch_run.rows, "optim/lr")
    assert column(jax_run.rows, "optim/lr") == rates
    falls = [step for step in range(7, 60) if rates[step] != rates[step - 1]]
    assert len(falls) >= 3
    assert all(step % 4 == 0 for step in falls), "at the first update after an evaluation"
    assert all(rates[step] == rates[step - 1] / 2 for step in falls)
    losses = column(torch_run.rows, "train/loss")
    assert column(jax_run.rows, "train/loss") == pytest.approx(losses, rel=1e-10)


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_resumed_run_keeps_the_state_of_its_plateau(train, tmp_path, backend):
    case, parts = f"{STANDING} logger=none accelerator=cpu", tmp_path / "parts"
    assert train("whole", backend, case) == 0
    # Between two evaluations, in a cooldown or not; then at an evaluation.
    assert train("parts", backend, f"{case} train.stop_after=30") == 130
    assert train("parts", backend, f"{case} resume={parts} train.stop_after=44") == 130
    assert train("parts", backend, f"{case} resume={parts}") == 0
    expected, rows = (
        read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")
    )
    rates = column(expected, "optim/lr")
    assert len(set(rates[7:31])) > 1
    assert len(set(rates[31:])) > 1
    for key in ("optim/lr", "train/loss", "val/accuracy"):
        assert column(rows, key) == column(expected, key), key
