"""Definitions of the metrics, and which value is better."""

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.dataset import Data, Split, Task
from pipeline.training.metrics import MONITOR, SUMS, compute_metrics, is_better


def data(task, outputs=1, length=1):
    """A data set of a task, with a number of outputs and a sample length."""
    inputs, targets = np.zeros((3, length)), np.zeros((3, length))
    split = Split(inputs, targets)
    return Data("test", task, split, split, split, outputs, np.zeros(1), np.ones(1))


def test_classification_metrics_are_mean_loss_and_accuracy():
    found = compute_metrics(data(Task.classification, outputs=10), {"loss": 6.0, "correct": 3.0}, 4)
    assert found == {"loss": 1.5, "accuracy": 0.75}


def test_language_metrics_are_per_token():
    found = compute_metrics(data(Task.language, 256, length=5), {"loss": 6.0, "correct": 3.0}, 4)
    assert found == pytest.approx({"loss": 0.3, "perplexity": np.exp(0.3), "accuracy": 0.15})


def test_a_uniform_guess_over_all_bytes_has_perplexity_256():
    sums = {"loss": 4 * 5 * np.log(256), "correct": 0.0}
    assert compute_metrics(data(Task.language, 256, 5), sums, 4)["perplexity"] == pytest.approx(256)


@pytest.mark.parametrize(("loss", "perplexity"), [(1e9, inf), (inf, inf), (-inf, 0.0)])
def test_the_perplexity_of_an_unbounded_loss_is_infinite(loss, perplexity):
    found = compute_metrics(data(Task.language), {"loss": loss, "correct": 0.0}, 1)
    assert found["perplexity"] == perplexity
    assert isnan(
        compute_metrics(data(Task.language), {"loss": nan, "correct": 0.0}, 1)["perplexity"]
    )


@given(st.integers(2, 30), st.integers(1, 3), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_regression_metrics_match_their_definitions(samples, outputs, offset, seed):
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
    found = compute_metrics(data(Task.regression, outputs), sums, samples)
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


def test_r2_of_equal_targets_is_nan():
    sums = {"loss": 1.0, "absolute_error": 1.0, "deviation": 0.0, "squared_deviation": 0.0}
    assert isnan(compute_metrics(data(Task.regression), sums, 2)["r2"])


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
def test_only_a_strictly_better_value_is_better_and_nan_never_is(value, best, mode, expected):
    assert is_better(value, best, mode) is expected


def test_the_sums_of_every_task_start_with_the_loss_and_give_its_monitored_metric():
    for task in Task:
        assert SUMS[task][0] == "loss"
        key, mode = MONITOR[task]
        assert key.removeprefix("val/") in compute_metrics(
            data(task), dict.fromkeys(SUMS[task], 1.0), 2
        )
        assert mode in ("min", "max")
