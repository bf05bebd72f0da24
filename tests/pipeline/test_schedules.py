"""Learning rates as functions of the step. That they are torch's, tests/twins says."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import SCHEMAS, ConstantConfig, CosineConfig, StepConfig, WarmupCosineConfig
from pipeline.schedules import SCHEDULES, in_steps, schedule

TOTALS = st.integers(1, 500)
SHARES = st.floats(0, 1)


def factors(config, total):
    factor = schedule(config, total)
    return [factor(step) for step in range(total + 1)]


def test_every_schedule_of_the_config_is_known():
    assert SCHEDULES.keys() == SCHEMAS["schedule"].keys()


@given(TOTALS)
def test_constant_is_one_throughout(total):
    assert set(factors(ConstantConfig(), total)) == {1.0}


@given(TOTALS, SHARES)
def test_cosine_falls_from_one_to_its_final_value_and_stays(total, final):
    values = factors(CosineConfig(final=final), total)
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(final)
    assert all(later <= before + 1e-15 for before, later in pairwise(values))
    assert schedule(CosineConfig(final=final), total)(total + 7) == pytest.approx(final)


@given(TOTALS, SHARES, SHARES, st.floats(0, 0.9))
def test_warmup_rises_in_a_line_and_then_falls_as_a_cosine(total, start, final, warmup):
    values = factors(WarmupCosineConfig(start=start, final=final, warmup=warmup), total)
    peak = in_steps(warmup, total)
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


@given(TOTALS, st.integers(1, 100), st.floats(0.01, 1))
def test_step_drops_by_gamma_at_every_interval(total, every, gamma):
    values = factors(StepConfig(every=every, gamma=gamma), total)
    assert values == [gamma ** (step // every) for step in range(total + 1)]


@pytest.mark.parametrize(
    ("length", "total", "steps"),
    [(0, 10, 0), (0.1, 100, 10), (0.25, 10, 2), (0.999, 1000, 999), (1, 10, 1), (30, 10, 30)],
)
def test_a_length_below_one_is_a_share_of_the_run(length, total, steps):
    assert in_steps(length, total) == steps


def test_a_share_of_a_short_run_that_rounds_to_nothing_is_one_step():
    assert factors(StepConfig(every=0.1, gamma=0.5), 3) == [1, 0.5, 0.25, 0.125]
