"""What each metric means, and what is better."""

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import Task
from pipeline.metrics import MONITOR, SUMS, better, summarise


def test_a_classification_is_judged_by_its_mean_loss_and_accuracy():
    found = summarise(Task.classification, {"loss": 6.0, "correct": 3.0}, 4, 10)
    assert found == {"loss": 1.5, "accuracy": 0.75}


@given(st.integers(2, 30), st.integers(1, 3), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_a_regression_is_judged_as_its_definitions_say(samples, outputs, offset, seed):
    random = np.random.default_rng(seed)
    targets = random.normal(size=(samples, outputs)) + offset
    error, center = random.normal(size=targets.shape), offset + 0.25
    sums = {
        "loss": (error**2).mean(axis=1).sum(),
        "absolute_error": np.abs(error).sum(),
        "deviation": (targets - center).sum(),
        "squared_deviation": ((targets - center) ** 2).sum(),
    }
    assert tuple(sums) == SUMS[Task.regression]
    found = summarise(Task.regression, sums, samples, outputs)
    variation = ((targets - targets.mean()) ** 2).sum()
    assert found == pytest.approx(
        {
            "loss": (error**2).mean(),
            "mse": (error**2).mean(),
            "mae": np.abs(error).mean(),
            "r2": 1 - (error**2).sum() / variation,
        },
        rel=1e-8,
    )


def test_r2_of_equal_targets_is_no_number():
    sums = {"loss": 1.0, "absolute_error": 1.0, "deviation": 0.0, "squared_deviation": 0.0}
    assert isnan(summarise(Task.regression, sums, 2, 1)["r2"])


@pytest.mark.parametrize(
    ("value", "best", "mode", "expected"),
    [
        (0.5, None, "max", True),
        (0.5, 0.4, "max", True),
        (0.5, 0.5, "max", False),
        (0.5, 0.6, "min", True),
        (0.5, 0.5, "min", False),
        (nan, None, "max", False),
        (nan, 0.5, "min", False),
        (inf, 0.5, "max", True),
    ],
)
def test_better_is_strictly_better_and_nan_never_is(value, best, mode, expected):
    assert better(value, best, mode) is expected


def test_every_task_has_sums_that_begin_with_the_loss_and_a_metric_that_is_made_of_them():
    for task in Task:
        assert SUMS[task][0] == "loss"
        key, mode = MONITOR[task]
        assert key.removeprefix("val/") in summarise(task, dict.fromkeys(SUMS[task], 1.0), 2, 1)
        assert mode in ("min", "max")
