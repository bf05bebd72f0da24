"""Statistics over seeds match scipy and Holm's correction, and claim no more than they show."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.compare.statistics import ROUNDING_32, corrected, effect, estimate

BACKENDS = ("torch", "jax")


def test_the_interval_is_students_t():
    values = [0.91, 0.93, 0.90, 0.95]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx(
        (np.mean(values), low, high), rel=1e-12
    )
    assert found.words == "0.9225 [0.8872, 0.9578]"
    assert found.short == "0.9225 ± 0.035"


def test_one_seed_has_a_mean_but_no_interval():
    found = estimate([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    assert found.words == found.short == "0.5"


def test_a_difference_is_tested_with_the_paired_t_test():
    ours, theirs = [0.90, 0.91, 0.93, 0.92], [0.93, 0.95, 0.95, 0.95]
    found = effect("", "test/accuracy", BACKENDS, ours, theirs, maximized=True)
    assert found.p == pytest.approx(stats.ttest_rel(theirs, ours).pvalue, rel=1e-9)
    assert found.estimate.mean == pytest.approx(0.03)
    assert (
        found.words == "jax is better than torch by 0.03 [0.01701, 0.04299], p = 0.005208, 4 seeds"
    )


def test_a_lower_loss_is_better():
    found = effect("", "test/loss", BACKENDS, [0.5, 0.51, 0.52], [0.4, 0.42, 0.41])
    assert found.words.startswith("jax is better than torch by ")


def test_a_worse_backend_is_reported_with_a_positive_amount():
    found = effect(
        "", "test/accuracy", BACKENDS, [0.95, 0.96, 0.97], [0.90, 0.91, 0.925], maximized=True
    )
    assert found.words.startswith("jax is worse than torch by 0.04833 [0.04116, 0.0555], p")


def test_an_insignificant_difference_is_reported_as_not_shown():
    found = effect(
        "", "test/accuracy", BACKENDS, [0.90, 0.92, 0.91], [0.91, 0.90, 0.93], maximized=True
    )
    assert not found.shown
    assert found.words.startswith("no difference shown: difference 0.003333 [")
    assert found.words.endswith("p = 0.8075, 3 seeds")


def test_values_equal_up_to_rounding_are_the_same():
    ours = np.array([0.5, 0.25, 0.125])
    found = effect("", "test/loss", BACKENDS, ours, ours * (1 + 1e-13))
    assert found.same
    assert found.words == "torch and jax are the same to rounding (3 seeds)"
    nearly = ours * (1 + 1e-7)
    assert not effect("", "test/loss", BACKENDS, ours, nearly).same
    assert effect("", "test/loss", BACKENDS, ours, nearly, rounding=ROUNDING_32).same


def test_one_pair_is_reported_without_a_verdict():
    found = effect("", "test/loss", BACKENDS, [0.5], [0.25])
    assert not found.shown
    assert found.words == "jax differs by -0.25 (one seed: no interval)"


def test_speeds_are_compared_as_ratios():
    ours, theirs = [100.0, 110.0, 105.0], [205.0, 214.0, 212.0]
    found = effect("", "throughput", BACKENDS, ours, theirs, ratio=True)
    logs = stats.ttest_rel(np.log(theirs), np.log(ours))
    assert found.p == pytest.approx(logs.pvalue, rel=1e-9)
    assert found.estimate.mean == pytest.approx(np.exp(np.mean(np.log(theirs) - np.log(ours))))
    assert found.words.startswith("jax is 2.004 [1.875, 2.143] times that of torch, p = ")


def test_a_constant_difference_over_seeds_is_shown():
    found = effect("", "test/loss", BACKENDS, [1.0, 2.0, 4.0], [2.0, 3.0, 5.0])
    assert found.p == 0.0
    assert found.shown


def test_p_values_are_corrected_by_holms_method():
    """Holm (1979): p = 0.01, 0.02, 0.04 become 0.03, 0.04, 0.04."""
    raw = [0.04, 0.01, 0.02]
    one = effect("", "test/loss", BACKENDS, [1.0, 1.1, 1.3], [1.2, 1.0, 1.4])
    effects = [type(one)(**{**vars(one), "p": p}) for p in raw]
    assert [e.p for e in corrected(effects)] == pytest.approx([0.04, 0.03, 0.04])


def test_untested_effects_do_not_count_in_the_correction():
    tested = effect("", "test/loss", BACKENDS, [1.0, 1.1, 1.3], [1.2, 1.0, 1.4])
    single = effect("", "test/loss", BACKENDS, [1.0], [2.0])
    same = effect("", "test/loss", BACKENDS, [1.0, 2.0], [1.0, 2.0])
    found = corrected([single, tested, same])
    assert math.isnan(found[0].p)
    assert found[1].p == tested.p
    assert found[2].same
