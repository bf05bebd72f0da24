"""Laws of the statistics of a benchmark: intervals of medians, ratios, growth with the batch."""

import math
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.statistics import FEWEST, growth, lowest_place, median_interval, ratio
from pipeline.bench.timing.rounds import are_precise, rounds_of

seconds = st.floats(1e-6, 1e3)
rounds = st.lists(seconds, min_size=FEWEST, max_size=60)
pairs = st.lists(st.tuples(seconds, seconds), min_size=FEWEST, max_size=60)


@pytest.mark.parametrize("count", range(1, 200))
def test_the_interval_covers_the_median_of_any_distribution_at_its_level(count):
    place = lowest_place(count)
    if count < FEWEST:
        assert place == 0
        return
    below = (
        sum(math.comb(count, k) for k in range(place)) / 2**count
    )  # of the count below the median
    assert 1 - 2 * below >= 0.95
    wider = below + math.comb(count, place) / 2**count
    assert 1 - 2 * wider < 0.95  # and no narrower interval does


@given(rounds)
def test_the_median_is_in_its_interval_whose_ends_were_measured(values):
    found = median_interval(values)
    assert found.low <= found.median * (1 + 1e-12)
    assert found.median <= found.high * (1 + 1e-12)
    assert {found.low, found.high} <= set(values)
    assert found.count == len(values)


@given(rounds, st.randoms())
def test_neither_the_order_of_the_rounds_nor_the_unit_matters(values, random):
    found = median_interval(values)
    shuffled = random.sample(values, len(values))
    assert median_interval(shuffled) == found
    halved = median_interval([value / 2 for value in values])
    assert (halved.low, halved.high) == (found.low / 2, found.high / 2)
    assert halved.median == pytest.approx(found.median / 2, rel=1e-12)


@given(pairs)
def test_the_ratio_of_two_backends_is_the_inverse_of_the_other_way_round(values):
    first, second = zip(*values, strict=True)
    one, other = ratio(first, second), ratio(second, first).inverse
    for end in ("median", "low", "high"):
        assert getattr(one, end) == pytest.approx(getattr(other, end), rel=1e-9)
    assert one.excludes_one == other.excludes_one or 1 in (one.low, one.high, other.low, other.high)


@given(rounds)
def test_a_slow_moment_that_hits_a_whole_round_does_not_change_the_ratio(values):
    doubled = [2 * value for value in values]
    found = ratio(values, doubled)
    assert (found.median, found.low, found.high) == (2, 2, 2)


def test_too_few_rounds_have_a_median_but_no_interval():
    found = median_interval([1.0] * (FEWEST - 1))
    assert found.median == 1
    assert math.isnan(found.low)
    assert found.half == math.inf
    assert not found.excludes_one
    assert not are_precise({"torch": [1.0] * 5, "jax": [2.0] * 5})
    assert are_precise({"torch": [1.0] * 6, "jax": [2.0] * 6})


def test_rounds_are_precise_only_if_every_pair_is():
    noisy = [1.0, 1.1, 0.9, 1.2, 0.8, 1.0]
    assert are_precise({"torch": noisy, "jax": [2 * value for value in noisy]})  # they drift alike
    assert not are_precise({"torch": noisy, "jax": noisy, "other": [1.0] * 6})
    assert not are_precise({"torch": noisy})
    assert are_precise({"torch": [1.0] * 6})


def test_rounds_go_on_until_the_ratio_is_known_or_all_processes_agree_that_it_is_enough():
    asked = []

    def agree(answer):
        asked.append(answer)
        return len(asked) > 8  # another process is not content yet

    steady = {"by hand": lambda: 2.0, "tandem": lambda: 1.0}
    assert rounds_of(steady, 20) == {"by hand": [2.0] * FEWEST, "tandem": [1.0] * FEWEST}
    found = rounds_of(steady, 20, agree)
    assert [len(values) for values in found.values()] == [8, 8]
    assert asked == [False] * FEWEST + [True] * 3
    noise = count()
    assert len(rounds_of(steady | {"noisy": lambda: 1.0 + next(noise) % 3}, 20)["noisy"]) == 20
    assert len(rounds_of(steady, 1)["tandem"]) == 1


def test_a_ratio_is_told_with_its_interval_and_rounds():
    assert (
        ratio([2.0] * 6, [2.0, 2.0, 1.9, 2.0, 2.0, 2.1]).in_words == "1.00 (0.950 … 1.05, 6 rounds)"
    )
    assert ratio([1.0], [123.4]).in_words == "123 (1 round)"


lines = st.tuples(st.floats(0, 1e3), st.floats(0, 1e2)).filter(lambda line: sum(line) > 1e-3)
sizes = st.lists(st.integers(1, 4096), min_size=2, max_size=10, unique=True).map(sorted)


@given(lines, sizes)
def test_the_growth_of_a_line_is_that_line(line, batches):
    fixed, each = line
    values = [fixed + each * batch for batch in batches]
    found = growth(batches, values)
    for batch, value in zip(batches, values, strict=True):
        assert found.at(batch) == pytest.approx(value, rel=1e-3)


@given(sizes, st.data())
def test_growth_is_never_negative_and_fits_no_worse_than_a_constant(batches, data):
    values = data.draw(st.lists(seconds, min_size=len(batches), max_size=len(batches)))
    found = growth(batches, values)
    assert found.fixed >= 0
    assert found.each >= 0

    def error(predict):
        return sum((predict(b) / v - 1) ** 2 for b, v in zip(batches, values, strict=True))

    best = error(found.at)
    for constant in values:
        assert best <= error(lambda _, c=constant: c) + 1e-6 * (1 + best)
    ordered = [found.at(batch) for batch in batches]
    assert all(one <= other for one, other in pairwise(ordered))
