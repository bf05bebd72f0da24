"""The order of samples: a permutation without an array, as good as one that is drawn."""

import hashlib
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chisquare

from pipeline.data.sample_order import BLOCK, SampleOrder, epoch_order

SEEDS, EPOCHS, SIZES = st.integers(0, 2**63 - 1), st.integers(0, 1000), st.integers(1, 400)


@given(SEEDS, EPOCHS, st.one_of(SIZES, st.integers(1, 20_000)))
def test_the_order_of_an_epoch_is_a_reproducible_permutation(seed, epoch, size):
    order = epoch_order(seed, epoch, size, 0, size)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(size))
    positions = np.arange(size)[::-1]
    again = SampleOrder(size, seed, ("order", epoch))[positions]
    np.testing.assert_array_equal(again, order[::-1])


@given(SEEDS, EPOCHS)
def test_epochs_and_seeds_have_different_orders(seed, epoch):
    order = epoch_order(seed, epoch, 100, 0, 100)
    assert (order != epoch_order(seed, epoch + 1, 100, 0, 100)).any()
    assert (order != epoch_order((seed + 1) % 2**63, epoch, 100, 0, 100)).any()


@given(st.integers(0, 3 * BLOCK), st.integers(1, 3 * BLOCK))
def test_any_part_of_an_epoch_is_that_of_the_whole(first, length):
    size = 7 * BLOCK + 3
    whole = np.concatenate([epoch_order(0, 0, size, i, i + 1) for i in (first, first + length - 1)])
    part = epoch_order(0, 0, size, first, first + length)
    assert len(part) == length
    np.testing.assert_array_equal(part[[0, -1]], whole)


def test_a_part_of_an_order_is_that_of_the_whole():
    order = SampleOrder(700, 1, ("split",))
    whole = np.asarray(order)
    assert (len(order[100:][:50]), len(order[:-1])) == (50, 699)
    np.testing.assert_array_equal(np.asarray(order[100:][:50]), whole[100:150])
    np.testing.assert_array_equal(order[100:][np.array([[3], [0]])], [[whole[103]], [whole[100]]])


@pytest.mark.parametrize(("first", "last"), [(0, 70), (140, 210), (630, 700), (5, 5)])
def test_an_order_without_a_part_goes_on_behind_it(first, last):
    order = SampleOrder(700, 1, ("split",))
    whole, rest = np.asarray(order), order.without(range(first, last))
    kept = np.concatenate([whole[:first], whole[last:]])
    np.testing.assert_array_equal(np.asarray(rest), kept)
    np.testing.assert_array_equal(np.asarray(rest[100:][:300]), kept[100:400])


def test_the_order_is_the_same_on_every_machine():
    orders = [epoch_order(seed, 3, size, 0, min(size, 9000)) for seed, size in ((0, 5), (7, 10**6))]
    assert orders[0].tolist() == [1, 4, 0, 2, 3]
    assert hashlib.sha256(orders[1].astype("<i8").tobytes()).hexdigest()[:16] == "8c8918eaf0472548"
    vast = SampleOrder(2**61 - 1, 0, ("order", 0))[np.array([0, 1, 2**61 - 2])]
    assert vast.tolist() == [1550453892675407107, 2108339173781359397, 1745983157433204338]


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_order_of_few_samples_is_equally_likely(size):
    every = {order: 0 for order in permutations(range(size))}
    epochs = max(2400 // size, 10 * len(every))
    seen = Counter(tuple(epoch_order(1, e, size, 0, size).tolist()) for e in range(epochs))
    assert chisquare(list((every | seen).values())).pvalue > 1e-3


@pytest.mark.parametrize("size", [10, 90, 1020, 5000])
def test_every_position_of_every_sample_is_equally_likely(size):
    """In cells of a tenth of the positions by a tenth of the samples, over many epochs."""
    epochs = max(80, 5000 // size)
    orders = np.stack([epoch_order(2, e, size, 0, size) for e in range(epochs)])
    cells = np.tile(np.arange(size) * 10 // size, epochs) * 10 + orders.ravel() * 10 // size
    # Each epoch fills every row and column of the table: 81 free cells, not 99, of a hypergeometric count.
    found = chisquare(np.bincount(cells, minlength=100)).statistic * (size - 1) / size
    assert 1e-3 < chi2.sf(found, 81) < 1 - 1e-3


def test_epochs_and_neighbours_are_not_correlated():
    size, epochs = 2000, 60
    ranks = np.stack([epoch_order(3, e, size, 0, size) for e in range(epochs)]).astype(float)
    found = np.corrcoef(ranks)[np.triu_indices(epochs, 1)] * np.sqrt(size - 1)
    assert abs(found.mean()) < 4 / np.sqrt(len(found))
    assert found.std() == pytest.approx(1, abs=0.1)
    following = [np.corrcoef(order[:-1], order[1:])[0, 1] * np.sqrt(size) for order in ranks]
    assert abs(np.mean(following)) < 4 / np.sqrt(epochs)
    # A sample that follows another in one epoch follows it in the next as often as any other does.
    steps = [set(pairwise(order)) for order in ranks.astype(int)]
    repeated = sum(len(one & two) for one, two in pairwise(steps))
    assert 0.5 * epochs < repeated < 1.5 * epochs
