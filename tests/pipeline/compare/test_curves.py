"""Curves are read completely, thinned without losing extremes, and compared at every step."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compare.curves import Curve, Target, gap, read_curves, read_runs, thinned


def curve(values, first=1):
    """A curve over consecutive steps that take a second each."""
    step = np.arange(first, first + len(values))
    return Curve(step, step.astype(float), np.array(values, dtype=float))


def write(path, *rows):
    path.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return path


def test_rows_become_a_curve_for_each_key(tmp_path):
    file = write(
        tmp_path / "metrics.jsonl",
        {"step": 10, "train/loss": 2.0, "perf/seconds": 1.5},
        {"step": 10, "val/loss": 3.0, "perf/seconds": 1.75},
        {"step": 20, "train/loss": "NaN", "perf/seconds": 2.5},
        {"step": 20, "val/loss": "Infinity", "perf/seconds": 2.75},
    )
    curves, notes = read_curves(file)
    assert notes == []
    assert curves["train/loss"].step.tolist() == [10, 20]
    assert curves["train/loss"].value[0] == 2.0
    assert math.isnan(curves["train/loss"].value[1])
    assert curves["val/loss"].value.tolist() == [3.0, math.inf]
    assert curves["val/loss"].seconds.tolist() == [1.75, 2.75]


def test_the_last_value_of_a_repeated_step_counts(tmp_path):
    rows = [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}, {"step": 2, "a": 5.0, "b": 0.0}]
    curves, _ = read_curves(write(tmp_path / "m", *rows))
    assert curves["a"].step.tolist() == [1, 2]
    assert curves["a"].value.tolist() == [1.0, 5.0]


def test_seconds_are_nan_if_the_file_has_none(tmp_path):
    curves, _ = read_curves(write(tmp_path / "m", {"step": 1, "train/loss": 1.0}))
    assert np.isnan(curves["train/loss"].seconds).all()


@pytest.mark.parametrize(
    ("damage", "note"),
    [
        (['{"step": 3, "a'], "m: line 3 is torn and left out"),
        (["half a line\n"], "m: line 3 is no event, left out"),
        (['{"a": 1.0}\n'], "m: line 3 is no event, left out"),
        (['{"step": 3, "a": [1]}\n'], "m: line 3 is no event, left out"),
        (["[1, 2]\n", "\n"], "m: 2 lines, the first 3, are no events, left out"),
        (['{"step": 3, "a": "red"}\n'], "m: line 3 is no event, left out"),
        (['{"step": null, "a": 1}\n'], "m: line 3 is no event, left out"),
    ],
)
def test_damaged_lines_are_reported_and_the_others_are_read(tmp_path, damage, note):
    file = write(tmp_path / "m", {"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}, *damage)
    curves, notes = read_curves(file)
    assert curves["a"].value.tolist() == [1.0, 2.0]
    assert notes == [note]


def test_undecodable_bytes_are_reported(tmp_path):
    (tmp_path / "m").write_bytes(b'{"step": 1, "a": 1.0}\n\xff\xfe\x00\n')
    curves, notes = read_curves(tmp_path / "m")
    assert curves["a"].value.tolist() == [1.0]
    assert notes == ["m: line 2 is no event, left out"]


def test_a_missing_file_is_reported(tmp_path):
    assert read_curves(tmp_path / "m") == ({}, ["m cannot be read: No such file or directory"])


@settings(max_examples=200)
@given(
    st.lists(st.floats(width=32) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=300),
    st.integers(8, 60),
)
def test_a_thinned_curve_keeps_its_ends_and_extremes_within_the_limit_of_points(values, points):
    whole = curve(values)
    thin = thinned(whole, points)
    assert len(thin.step) <= max(points, 1)
    assert thin.step[0] == whole.step[0]
    assert thin.step[-1] == whole.step[-1]
    assert (np.diff(thin.step) > 0).all()
    finite = whole.value[~np.isnan(whole.value)]
    if len(finite):
        assert np.nanmax(thin.value) == finite.max()
        assert np.nanmin(thin.value) == finite.min()
    assert np.isnan(thin.value).any() == np.isnan(whole.value).any()
    at = np.searchsorted(whole.step, thin.step)
    assert np.array_equal(whole.value[at], thin.value, equal_nan=True)


def test_a_thinned_curve_keeps_isolated_spikes():
    values = np.sin(np.arange(10_000) / 500)
    values[[17, 5_003, 9_990]] = [50.0, -50.0, 40.0]
    thin = thinned(curve(values), 150)
    assert len(thin.step) <= 150
    assert {50.0, -50.0, 40.0} <= {*thin.value.tolist()}


def test_a_gap_is_relative_and_reported_at_its_worst_step():
    found = gap(curve([1.0, 2.0, 0.0]), curve([1.0, 1.0, 0.0]), 100)
    assert found.curve.value.tolist() == [0.0, 0.5, 0.0]
    assert (found.worst, found.step) == (0.5, 2)


def test_a_gap_is_over_the_steps_that_both_curves_have():
    found = gap(curve([1.0, 2.0, 3.0]), curve([2.0, 4.0], first=2), 100)
    assert found.curve.step.tolist() == [2, 3]
    assert found.curve.value.tolist() == [0.0, 0.25]
    assert gap(curve([1.0]), curve([1.0], first=5), 100) is None


def test_a_number_against_nan_is_infinitely_far_and_two_nans_are_equal():
    assert gap(curve([math.nan, math.nan]), curve([math.nan, 1.0]), 100).worst == math.inf
    assert gap(curve([math.inf]), curve([math.inf]), 100).worst == 0.0


def test_the_worst_gap_is_over_all_steps_and_not_only_those_drawn(tmp_path):
    steps = range(1, 5001)
    ours = write(tmp_path / "a", *({"step": step, "train/loss": 1.0} for step in steps))
    theirs = write(
        tmp_path / "b",
        *({"step": step, "train/loss": 1.0 + 1e-12 * (step == 2345)} for step in steps),
    )
    _, gaps = read_runs([ours, theirs], points=20, target=None)
    assert gaps["train/loss"].step == 2345
    assert gaps["train/loss"].worst == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("val/accuracy", 0.8, True), (20, 4.0)),
        (Target("val/loss", 0.5), (30, 6.0)),
        (Target("val/accuracy", 0.99, True), None),
        (Target("val/nothing", 0.0), None),
    ],
)
def test_the_first_step_and_second_that_reach_a_target_are_found(tmp_path, target, expected):
    rows = [
        {"step": step, "val/accuracy": accuracy, "val/loss": loss, "perf/seconds": step / 5}
        for step, accuracy, loss in ((10, 0.7, 0.9), (20, 0.85, 0.6), (30, 0.8, 0.4))
    ]
    [reading], _ = read_runs([write(tmp_path / "m", *rows)], points=100, target=target)
    assert reading.reached == expected
