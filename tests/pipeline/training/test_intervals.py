"""Intervals of logging and evaluation, and the grouping of steps into compiled calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.train import TrainConfig
from pipeline.errors import UserError
from pipeline.training.intervals import Intervals, eval_steps, make_intervals

COUNTS = st.integers(1, 40)


@st.composite
def interval_cases(draw):
    """Intervals of a run, its first step, the most steps of a call, and where it stops."""
    total = draw(st.integers(1, 200))
    times = Intervals(total, draw(COUNTS), log_every=draw(COUNTS), eval_every=draw(COUNTS))
    stop = draw(st.none() | st.integers(1, 220))
    return times, draw(st.integers(0, total)), draw(st.integers(1, 50)), stop


@given(interval_cases())
def test_calls_cover_every_step_once_and_end_where_something_is_due(journey):
    times, start, limit, stop = journey
    calls = list(times.calls(start, limit, stop))
    covered = [step for first, count in calls for step in range(first, first + count)]
    assert covered == list(range(start, times.total))
    assert {count for _, count in calls} <= {1, limit}
    for first, count in calls:
        for inside in range(first + 1, first + count):
            assert not times.logs(inside)
            assert not times.evaluates(inside)
            assert inside != stop


@given(interval_cases())
def test_a_call_is_as_long_as_possible(journey):
    times, start, limit, stop = journey
    for first, count in times.calls(start, limit, stop):
        if count < limit:
            steps = range(first + 1, first + limit)
            due = any(times.logs(s) or times.evaluates(s) or s == stop for s in steps)
            assert due or first + limit > times.total


@pytest.mark.parametrize(
    ("overrides", "samples", "length", "calls"),
    [
        ("", 1280, 10, 4),
        ("experiment=cifar10_cnn", 50_000, 10, 39),
        ("experiment=text_gpt", 16_000, 25, 20),
        ("train.log_every=32 train.eval_every=64steps", 2048, 32, 2),
        ("train.log_every=7 train.eval_every=20steps", 2560, 1, 80),
    ],
)
def test_a_call_of_a_preset_has_as_many_steps_as_divide_all_lines(
    configure, overrides, samples, length, calls
):
    times = make_intervals(configure(overrides).train, samples)
    assert times.call_length(32) == length
    made = list(times.calls(0, length, stop=times.steps_per_epoch))
    assert len([first for first, _ in made if first < times.steps_per_epoch]) == calls
    assert times.call_length(1) == 1


def test_the_last_step_is_always_logged_and_evaluated():
    times = Intervals(total=25, steps_per_epoch=10, log_every=10, eval_every=20)
    steps = range(1, 26)
    assert [step for step in steps if times.logs(step)] == [10, 20, 25]
    assert [step for step in steps if times.evaluates(step)] == [20, 25]
    assert times.epoch(25) == 2.5


@pytest.mark.parametrize(
    ("every", "steps"),
    {
        1: 50,
        2: 100,
        "3 epochs": 150,
        "1epoch": 50,
        "1step": 1,
        "100steps": 100,
        " 7 steps ": 7,
    }.items(),
)
def test_eval_every_counts_epochs_unless_it_says_steps(every, steps):
    assert eval_steps(every, 50) == steps


@pytest.mark.parametrize("every", [0, -1, "0steps", "-5", "1.5", "often", "", "10 stepsize", None])
def test_an_invalid_interval_is_refused_with_a_remedy(every):
    with pytest.raises(UserError, match=r"train\.eval_every=.*Set train\.eval_every=1 or") as error:
        TrainConfig(eval_every=every)
    assert error.value.key == "train.eval_every"


def test_steps_override_epochs_and_the_last_partial_batch_is_dropped():
    times = make_intervals(TrainConfig(epochs=3, batch_size=10, log_every=7, eval_every=2), 109)
    assert times == Intervals(total=30, steps_per_epoch=10, log_every=7, eval_every=20)
    assert make_intervals(TrainConfig(epochs=3, steps=5, batch_size=10), 109).total == 5


def test_a_batch_larger_than_the_data_is_refused_with_the_size_that_fits():
    with pytest.raises(UserError, match=r"train\.batch_size=11: must be at most 10, the size"):
        make_intervals(TrainConfig(batch_size=11), 10)
    assert make_intervals(TrainConfig(batch_size=10), 10).steps_per_epoch == 1
