"""Definitions of the metrics of each task."""

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tasks import TASKS, Classification, Language, Regression, direction


def test_classification_metrics_are_mean_loss_and_accuracy():
    found = Classification().metrics({"loss": 6.0, "correct": 3.0}, {"label": (4,)})
    assert found == {"loss": 1.5, "accuracy": 0.75}


def test_language_metrics_are_per_token():
    found = Language().metrics({"loss": 6.0, "correct": 3.0}, {"next": (4, 5)})
    assert found == pytest.approx({"loss": 0.3, "perplexity": np.exp(0.3), "accuracy": 0.15})


def test_a_uniform_guess_over_all_bytes_has_perplexity_256():
    sums = {"loss": 4 * 5 * np.log(256), "correct": 0.0}
    assert Language().metrics(sums, {"next": (4, 5)})["perplexity"] == pytest.approx(256)


@pytest.mark.parametrize(("loss", "perplexity"), [(1e9, inf), (inf, inf), (-inf, 0.0)])
def test_the_perplexity_of_an_unbounded_loss_is_infinite(loss, perplexity):
    found = Language().metrics({"loss": loss, "correct": 0.0}, {"next": (1, 1)})
    assert found["perplexity"] == perplexity
    assert isnan(Language().metrics({"loss": nan, "correct": 0.0}, {"next": (1, 1)})["perplexity"])


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
    assert tuple(sums) == Regression.sums
    found = Regression().metrics(sums, {"target": (samples, outputs)})
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
    assert isnan(Regression().metrics(sums, {"target": (2, 1)})["r2"])


@pytest.mark.parametrize("name", TASKS)
def test_the_sums_of_every_task_start_with_the_loss_and_give_its_monitored_metric(name):
    task = TASKS[name]()
    assert (task.name, task.sums[0]) == (name, "loss")
    sums = dict.fromkeys(task.names_of_sums(3), 1.0)
    found = task.metrics(sums, dict.fromkeys((*task.targets, "image"), (2, 3)))
    assert task.monitor in found
    assert task.direction(task.monitor) == direction(f"val/{task.monitor}")
    assert {metric for metric in found if direction(f"test/{metric}") == "max"} == task.maximized


@pytest.mark.parametrize(
    ("task", "shapes", "expected"),
    [
        (Classification(), {"label": (4,)}, 4),
        (Regression(), {"target": (4, 3)}, 4),
        (Language(), {"next": (4, 3)}, 12),
    ],
    ids=["classification", "regression", "language"],
)
def test_the_mean_loss_is_over_samples_and_for_a_language_task_over_tokens(task, shapes, expected):
    assert task.terms(shapes) == expected
