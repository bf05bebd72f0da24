"""A user's own learning-rate schedule: its arguments, its warm-up, and refusals that name the step."""

import pytest

from pipeline.config.schedules import OwnScheduleConfig
from pipeline.errors import UserError
from pipeline.training.lr_schedules import make_schedule

NAME = "own_schedules_of_a_test"
CODE = """
from fractions import Fraction

def whole(step, total, power=1): return (1 - step / total) ** power
def alone(step): return Fraction(1, 1 + step)
def third(a, b, c): return 1
def failing(step): return 1 // (5 - step)
def text(step): return "high"
def later(step): return float("nan") if step == 1_234 else 1.0
def negative(step, total): return 1 - 2 * step / total
number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / f"{NAME}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def made(function, total=10, **settings):
    return make_schedule(OwnScheduleConfig(function=f"{NAME}:{function}", **settings), total)


def test_the_function_gets_the_step_the_total_and_its_options():
    assert [made("whole")(step) for step in (0, 5, 9)] == [1.0, 0.5, pytest.approx(0.1)]
    assert made("whole", options={"power": 2})(5) == 0.25
    assert made("alone")(3) == 0.25


def test_it_runs_over_the_steps_after_the_warm_up():
    factor = made("whole", total=12, warmup=2, start=0.0)
    assert [factor(step) for step in (0, 1, 2, 7)] == [0.0, 0.5, 1.0, 0.5]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "third",
            r"it takes \(a, b, c\), and is called with \(step, total, \*\*schedule.options\)",
        ),
        (
            "failing",
            r"fails at step 5: ZeroDivisionError: .* \(own_schedules_of_a_test.py, line 7\)",
        ),
        ("text", "at step 0 it returns 'high', and a factor is a finite number, 0 or more"),
        ("negative", "at step 6 it returns -0"),
        ("number", r"must be a function of \(step, total\)"),
        ("wholly", f"has no wholly. Did you mean {NAME}:whole?"),
    ],
)
def test_a_function_that_gives_no_factor_is_refused_before_the_first_step(function, message):
    with pytest.raises(UserError, match=message) as refused:
        made(function)
    assert refused.value.key == "schedule.function"


def test_a_step_between_those_that_are_checked_is_named_when_it_comes():
    factor = made("later", total=100_000)
    assert factor(1_233) == 1.0
    with pytest.raises(UserError, match=r"at step 1234 it returns nan"):
        factor(1_234)


def test_no_function_is_refused():
    with pytest.raises(UserError, match=r"schedule.function=None: .* Set schedule.function="):
        make_schedule(OwnScheduleConfig(), 10)
