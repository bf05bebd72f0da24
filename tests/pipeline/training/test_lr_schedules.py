"""Learning-rate factors as functions of the step; tests/twins compares them with torch's schedulers."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.experiment import SCHEMAS
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
    WarmupCosineConfig,
)
from pipeline.errors import UserError
from pipeline.training.lr_schedules import SCHEDULES, make_schedule, to_steps

TOTALS = st.integers(1, 500)
SHARES = st.floats(0, 1)
LENGTHS = st.floats(1e-3, 0.999) | st.integers(1, 600)
GAMMAS = st.floats(0.01, 1)

WARMUPS = {"warmup": st.floats(0, 0.999) | st.integers(0, 600), "start": SHARES}
CONFIGS = {
    "constant": st.builds(ConstantConfig, **WARMUPS),
    "linear": st.builds(LinearScheduleConfig, initial=SHARES, final=SHARES, **WARMUPS),
    "step": st.builds(StepConfig, every=LENGTHS, gamma=GAMMAS, **WARMUPS),
    "multistep": st.builds(
        MultiStepConfig, milestones=st.lists(LENGTHS, max_size=5), gamma=GAMMAS, **WARMUPS
    ),
    "exponential": st.builds(ExponentialConfig, every=LENGTHS, gamma=GAMMAS, **WARMUPS),
    "polynomial": st.builds(PolynomialConfig, power=st.floats(0.1, 9), final=SHARES, **WARMUPS),
    "cosine": st.builds(
        CosineConfig,
        final=SHARES,
        cycles=st.integers(1, 9),
        cycle_factor=st.floats(1, 3),
        **WARMUPS,
    ),
    "warmup_cosine": st.builds(WarmupCosineConfig, final=SHARES, **WARMUPS),
    "one_cycle": st.builds(
        OneCycleConfig,
        pct_start=SHARES,
        div_factor=st.floats(1, 100),
        final_div_factor=st.floats(1, 1e5),
        anneal=st.sampled_from(Anneal),
        **WARMUPS,
    ),
    "plateau": st.builds(PlateauConfig, **WARMUPS),
}
EVERY = st.one_of(CONFIGS.values())
# Those that only ever fall after the warm-up.
FALLING = st.one_of(
    *(CONFIGS[name] for name in ("step", "multistep", "exponential", "polynomial", "warmup_cosine"))
)


def factors(config, total):
    factor = make_schedule(config, total)
    return [factor(step) for step in range(total + 1)]


def test_every_schedule_is_implemented_and_tested_here():
    # A user's own is held in test_own_schedule.py.
    assert SCHEDULES.keys() == SCHEMAS["schedule"].keys() == CONFIGS.keys() | {"own"}


# --- of all of them -------------------------------------------------------------------------------


@given(EVERY, TOTALS)
def test_factors_lie_between_zero_and_one_during_and_after_the_run(config, total):
    factor = make_schedule(config, total)
    assert all(-1e-15 <= factor(step) <= 1 + 1e-15 for step in range(total + 10))


@given(EVERY, TOTALS, st.randoms())
def test_a_factor_depends_only_on_the_step(config, total, random):
    factor, steps = make_schedule(config, total), list(range(total + 1))
    random.shuffle(steps)
    found = {step: factor(step) for step in steps}
    assert [found[step] for step in sorted(steps)] == factors(replace(config), total)


@given(EVERY, TOTALS)
def test_after_a_warmup_the_schedule_runs_as_without_one(config, total):
    warmup = to_steps(config.warmup, total)
    alone = make_schedule(replace(config, warmup=0), max(1, total - warmup))
    values = factors(config, total)
    assert values[warmup:] == [alone(step) for step in range(total + 1 - warmup)]
    if 0 < warmup <= total:
        assert values[0] == config.start
        rises = [later - before for before, later in pairwise(values[: warmup + 1])]
        assert rises == pytest.approx([(alone(0) - config.start) / warmup] * warmup)


@given(st.sampled_from(sorted(CONFIGS)), st.integers(1, 99), st.integers(0, 20))
def test_lengths_as_shares_of_the_run_equal_lengths_in_steps(name, percent, hundreds):
    total = 100 + 100 * hundreds
    config = SCHEMAS["schedule"][name](warmup=percent / 100)
    assert factors(config, total) == factors(replace(config, warmup=percent * total // 100), total)
    for key in ("every", "milestones"):
        if hasattr(config, key):
            listed = key == "milestones"
            share = replace(config, warmup=0, **{key: [percent / 100] if listed else percent / 100})
            steps = percent * total // 100
            counted = replace(share, **{key: [steps] if listed else steps})
            assert factors(share, total) == factors(counted, total)


@given(FALLING, TOTALS)
def test_after_the_warmup_a_decay_never_rises(config, total):
    tail = factors(config, total)[to_steps(config.warmup, total) :]
    assert all(later <= before + 1e-15 for before, later in pairwise(tail))


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("warmup", [0, 0.5, 1, 7])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_runs_of_a_few_steps_have_factors_between_zero_and_one(name, warmup, total):
    values = factors(SCHEMAS["schedule"][name](warmup=warmup), total)
    assert all(0 <= value <= 1 for value in values)


@pytest.mark.parametrize(
    ("length", "total", "steps"),
    [(0, 10, 0), (0.1, 100, 10), (0.25, 10, 2), (0.999, 1000, 999), (1, 10, 1), (30, 10, 30)],
)
def test_a_length_below_one_is_a_share_of_the_run(length, total, steps):
    assert to_steps(length, total) == steps


# --- of each --------------------------------------------------------------------------------------


@given(TOTALS)
def test_constant_and_plateau_factors_are_one(total):
    assert set(factors(ConstantConfig(), total)) == set(factors(PlateauConfig(), total)) == {1.0}


@given(TOTALS, SHARES, SHARES)
def test_linear_goes_from_its_initial_to_its_final_factor_in_equal_steps(total, initial, final):
    values = factors(LinearScheduleConfig(initial=initial, final=final), total)
    assert (values[0], values[-1]) == (initial, final)
    changes = [later - before for before, later in pairwise(values)]
    assert changes == pytest.approx([(final - initial) / total] * total)


@given(TOTALS, st.integers(1, 100), GAMMAS)
def test_step_drops_by_gamma_at_every_interval(total, every, gamma):
    values = factors(StepConfig(every=every, gamma=gamma), total)
    assert values == [gamma ** (step // every) for step in range(total + 1)]


def test_a_share_that_rounds_to_zero_steps_is_one_step():
    assert factors(StepConfig(every=0.1, gamma=0.5), 3) == [1, 0.5, 0.25, 0.125]
    assert factors(MultiStepConfig(milestones=[0.1, 0.6], gamma=0.5), 3) == [1, 0.5, 0.25, 0.25]


def test_milestones_may_be_unsorted_and_mix_steps_and_shares():
    values = factors(MultiStepConfig(milestones=[7, 0.2, 7], gamma=0.5), 10)
    assert values == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.125, 0.125, 0.125, 0.125]


@given(TOTALS, st.integers(1, 100), GAMMAS)
def test_exponential_equals_step_at_every_interval_and_decays_between(total, every, gamma):
    smooth = factors(ExponentialConfig(every=every, gamma=gamma), total)
    stairs = factors(StepConfig(every=every, gamma=gamma), total)
    assert smooth[::every] == pytest.approx(stairs[::every])
    assert all(one <= other for one, other in zip(smooth, stairs, strict=True))


@given(TOTALS, SHARES)
def test_polynomial_of_power_one_is_linear(total, final):
    values = factors(PolynomialConfig(final=final), total)
    assert values == pytest.approx(factors(LinearScheduleConfig(final=final), total))


@given(TOTALS, SHARES)
def test_cosine_falls_from_one_to_its_final_value_and_stays(total, final):
    values = factors(CosineConfig(final=final), total)
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(final)
    assert all(later <= before + 1e-15 for before, later in pairwise(values))
    assert make_schedule(CosineConfig(final=final), total)(total + 7) == pytest.approx(final)


@given(st.integers(100, 500), st.integers(1, 5), st.floats(1, 2), st.floats(0, 0.9))
def test_cosine_restarts_at_one_in_every_cycle(total, cycles, cycle_factor, final):
    config = CosineConfig(cycles=cycles, cycle_factor=cycle_factor, final=final)
    values = factors(config, total)
    begins = [0, *(step for step in range(1, total) if values[step] > values[step - 1])]
    assert len(begins) == cycles
    assert [values[step] for step in begins] == pytest.approx([1.0] * cycles)
    lengths = [later - before for before, later in pairwise([*begins, total])]
    for before, later in pairwise(lengths):
        assert later == pytest.approx(before * cycle_factor, abs=1 + cycle_factor)


@given(TOTALS, SHARES, SHARES, st.floats(0, 0.9))
def test_warmup_cosine_rises_linearly_and_falls_as_a_cosine(total, start, final, warmup):
    values = factors(WarmupCosineConfig(start=start, final=final, warmup=warmup), total)
    peak = to_steps(warmup, total)
    assert values[peak] == pytest.approx(1)
    assert values[-1] == pytest.approx(final if peak < total else 1)
    if peak:
        assert values[0] == start
        rises = [later - before for before, later in pairwise(values[: peak + 1])]
        assert rises == pytest.approx([(1 - start) / peak] * peak)
    assert min(start, final) - 1e-12 <= min(values)
    assert max(values) <= 1 + 1e-12
    tail = values[peak:]
    assert all(later <= before + 1e-15 for before, later in pairwise(tail))


@given(TOTALS, st.floats(0, 0.9), SHARES)
def test_cosine_with_a_warmup_equals_warmup_cosine(total, warmup, final):
    keys = {"warmup": warmup, "final": final}
    assert factors(CosineConfig(**keys), total) == factors(WarmupCosineConfig(**keys), total)


@pytest.mark.parametrize("anneal", Anneal)
def test_one_cycle_rises_to_its_peak_and_falls_to_almost_zero(anneal):
    config = OneCycleConfig(pct_start=0.3, div_factor=20, final_div_factor=1000, anneal=anneal)
    values = factors(config, 100)
    assert values[0] == pytest.approx(1 / 20)
    assert values[29] == pytest.approx(1)
    assert values[99] == values[100] == pytest.approx(1 / 20_000)
    assert all(later > before for before, later in pairwise(values[:30]))
    assert all(later < before for before, later in pairwise(values[29:100]))


@pytest.mark.parametrize(("pct_start", "peak"), [(0.1, 0), (1.0, 9)])
def test_one_cycle_may_start_or_end_at_its_peak(pct_start, peak):
    """A `pct_start` at which torch's OneCycleLR divides by zero."""
    values = factors(OneCycleConfig(pct_start=pct_start), 10)
    assert values[peak] == 1
    assert max(values) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("schedule=constant schedule.warmup=-1", r"schedule\.warmup=-1.*must be 0 or more"),
        ("schedule=cosine schedule.start=2", r"schedule\.start=2.*must be in \[0, 1\]"),
        ("schedule=linear schedule.initial=-1", r"schedule\.initial=-1.*must be 0 or more"),
        ("schedule=cosine schedule.final=-1", r"schedule\.final=-1.*must be 0 or more"),
        ("schedule=cosine schedule.cycles=0", r"schedule\.cycles=0: must be in 1 … 100"),
        ("schedule=cosine schedule.cycle_factor=0.5", r"cycle_factor=0\.5: must be in \[1, 10\]"),
        ("schedule=step schedule.every=0", r"schedule\.every=0.*must be above 0"),
        ("schedule=step schedule.gamma=0", r"schedule\.gamma=0.*must be in \(0, 1\]"),
        ("schedule=exponential schedule.every=0", r"schedule\.every=0.*must be above 0"),
        ("schedule=exponential schedule.gamma=2", r"schedule\.gamma=2.*must be in \(0, 1\]"),
        ("schedule=multistep schedule.gamma=2", r"schedule\.gamma=2.*must be in \(0, 1\]"),
        ("schedule=multistep schedule.milestones=[0]", r"milestones=\[0.*must be numbers above 0"),
        ("schedule=polynomial schedule.power=0", r"schedule\.power=0.*must be above 0"),
        ("schedule=one_cycle schedule.pct_start=2", r"pct_start=2.*must be in \[0, 1\]"),
        ("schedule=one_cycle schedule.div_factor=0.5", r"div_factor=0\.5: must be 1 or more"),
        ("schedule=plateau schedule.factor=1", r"schedule\.factor=1.*must be in \(0, 1\)"),
        ("schedule=plateau schedule.patience=-1", r"schedule\.patience=-1: must be 0 or more"),
        ("schedule=plateau schedule.min_factor=2", r"min_factor=2.*must be in \[0, 1\]"),
        ("schedule=warmup_cosine schedule.warmup=-1", r"schedule\.warmup=-1.*must be 0 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(configure, overrides, message):
    with pytest.raises(UserError, match=message):
        configure(overrides)


def test_warmup_cosine_defaults_and_factors_are_frozen(configure):
    config = configure("schedule=warmup_cosine").schedule
    assert (config.warmup, config.start, config.final) == (0.1, 0.01, 0.0)
    values = factors(config, 1000)
    expected = {
        0: 0.01,
        1: 0.0199,
        99: 0.9901,
        100: 1.0,
        101: 0.9999969538288952,
        325: 0.8535533905932737,
        999: 3.046171104803541e-06,
        1000: 0.0,
    }
    assert {step: values[step] for step in expected} == pytest.approx(expected, rel=1e-14, abs=0)
