"""Fingerprints know the values of an array, and nothing of its layout."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.verify.checks.layer_table import join
from pipeline.verify.trace.fingerprints import Index, distance, fingerprint, is_informative

SHAPES = st.lists(st.integers(2, 5), min_size=1, max_size=4)


def values(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@given(SHAPES, st.randoms())
def test_order_shape_and_repetition_do_not_change_a_fingerprint(shape, random):
    array = values(shape)
    axes = list(range(array.ndim))
    random.shuffle(axes)
    other = np.broadcast_to(array.transpose(axes).reshape(-1), (3, array.size))
    assert distance(fingerprint(array), fingerprint(other)) < 1e-14


@given(SHAPES, st.floats(1e-9, 1))
def test_one_changed_value_changes_a_fingerprint(shape, change):
    array = values(shape)
    other = array.copy()
    other.flat[0] += change * np.abs(array).max()
    assert distance(fingerprint(array), fingerprint(other)) > change * 1e-4


def test_the_sign_and_the_scale_of_values_are_told_apart():
    array = values([4, 5])
    assert distance(fingerprint(array), fingerprint(-array)) > 0.01
    assert distance(fingerprint(array), fingerprint(2 * array)) > 0.4


def test_values_that_are_not_finite_are_never_the_same():
    array = values([4])
    broken = array.copy()
    broken[0] = np.nan
    assert distance(fingerprint(array), fingerprint(broken)) == np.inf
    assert distance(fingerprint(broken), fingerprint(broken)) == np.inf
    assert not is_informative(fingerprint(broken))


def test_constants_say_nothing():
    assert not is_informative(fingerprint(np.full((3, 4), 0.7)))
    assert not is_informative(fingerprint(np.zeros(5)))
    assert is_informative(fingerprint(values([3])))


def test_an_index_finds_an_array_among_others_in_another_layout():
    arrays = [values([3, 4], seed) for seed in range(50)]
    index = Index(np.stack([fingerprint(array) for array in arrays]))
    assert index.find(fingerprint(arrays[17].T), 1e-10) == [17]
    assert index.find(fingerprint(arrays[17] + 1e-6), 1e-10) == []
    assert index.find(fingerprint(arrays[17] + 1e-6), 1e-5) == [17]


def test_joined_fingerprints_are_those_of_all_values_together():
    random = np.random.default_rng(0)
    parts = [random.standard_normal(shape) + 1 for shape in ((3, 4), (5,), (2, 2, 2))]
    together = np.concatenate([part.ravel() for part in parts])
    joined = join([fingerprint(part) for part in parts], [part.size for part in parts])
    assert distance(joined, fingerprint(together)) < 1e-14
