"""Which of two evaluations is better."""

from math import inf, nan

import pytest

from pipeline.run.recording.best_tracker import is_better


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
