"""The plateau schedule and its state; tests/twins compares it with torch's ReduceLROnPlateau."""

import json
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.optimizers import AdamWConfig
from pipeline.config.schedules import ConstantConfig, PlateauConfig, ThresholdMode
from pipeline.training.reduce_on_plateau import Plateau, make_plateau

CONFIGS = st.builds(
    PlateauConfig,
    factor=st.sampled_from([0.1, 0.5]),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    threshold_mode=st.sampled_from(ThresholdMode),
)
VALUES = st.lists(st.sampled_from([0.5, 0.55, 0.6, nan, -3.0]), min_size=20, max_size=40)
MODES = st.sampled_from(["min", "max"])


def factors(memory, values):
    found = []
    for value in values:
        memory.step(value)
        found.append(memory.factor)
    return found


@given(CONFIGS, MODES, VALUES, st.integers(0, 20))
def test_a_restored_plateau_continues_like_an_uninterrupted_one(config, mode, values, cut):
    whole, first, second = (Plateau(config, mode, 1.0) for _ in range(3))
    expected = factors(whole, values)
    found = factors(first, values[:cut])
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert found + factors(second, values[cut:]) == expected
    assert vars(second) == vars(whole)


@given(CONFIGS, MODES, VALUES)
def test_a_plateau_only_lowers_the_learning_rate_and_never_below_its_minimum(config, mode, values):
    config.min_factor = 0.02
    found = [1.0, *factors(Plateau(config, mode, 1.0), values)]
    assert found == sorted(found, reverse=True)
    assert found[-1] >= 0.02


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("max", [0.5, 0.5, 0.5, 0.6, 0.6, 0.6], [1, 1, 0.5, 0.5, 0.5, 0.25]),
        ("min", [0.5, 0.4, 0.3, 0.3, 0.3, 0.3], [1, 1, 1, 1, 0.5, 0.5]),
        ("min", [nan, nan, 0.5, 0.4, nan, nan], [1, 0.5, 0.5, 0.5, 0.5, 0.25]),
    ],
)
def test_a_value_that_does_not_improve_within_the_patience_lowers_the_learning_rate(
    mode, values, expected
):
    assert factors(Plateau(PlateauConfig(factor=0.5, patience=1), mode, 1.0), values) == expected


def test_values_during_a_cooldown_are_ignored():
    config = PlateauConfig(factor=0.5, patience=0, cooldown=2)
    expected = [1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert factors(Plateau(config, "min", 1.0), [1.0] * 6) == expected


def test_a_threshold_is_relative_or_absolute():
    values = [10.0, 9.5, 8.9]
    relative = PlateauConfig(patience=0, threshold=0.1)
    absolute = PlateauConfig(patience=0, threshold=1.0, threshold_mode=ThresholdMode.abs)
    assert factors(Plateau(relative, "min", 1.0), values) == [1, 0.1, 0.1]
    assert factors(Plateau(absolute, "min", 1.0), values) == [1, 0.1, 0.1]
    assert factors(Plateau(relative, "min", 1.0), [10.0, 8.9]) == [1, 1]
    assert factors(Plateau(absolute, "min", 1.0), [10.0, 8.9]) == [1, 1]


def test_other_schedules_have_no_state():
    steady = make_plateau(ConstantConfig(), AdamWConfig(), "max")
    assert factors(steady, [0.5] * 99) == [1.0] * 99
    assert steady.state() == {}


def test_a_run_resumed_under_plateau_starts_with_a_fresh_one():
    steady = make_plateau(ConstantConfig(), AdamWConfig(), "max")
    fresh = make_plateau(PlateauConfig(), AdamWConfig(), "max")
    fresh.restore(steady.state())
    assert fresh.state() == make_plateau(PlateauConfig(), AdamWConfig(), "max").state()
    steady.restore(fresh.state())
    assert steady.factor == 1.0
