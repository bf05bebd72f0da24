"""The digest depends on names, types, shapes and every byte of arrays, and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.digest import digest

ARRAY = arrays(
    np.float32, array_shapes(max_dims=3, max_side=3), elements=st.floats(-9, 9, width=16)
)
ARRAYS = st.dictionaries(st.text("abc.", min_size=1), ARRAY, min_size=2, max_size=4)


@given(ARRAYS, st.randoms())
def test_the_digest_does_not_depend_on_order_or_memory_layout(tree, random):
    names = list(tree)
    random.shuffle(names)
    assert digest({name: np.asfortranarray(tree[name]) for name in names}) == digest(tree)


BASE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    "change",
    [
        {"a": BASE["a"].reshape(3, 2)},
        {"a": BASE["a"].astype(np.float64)},
        {"a": np.nextafter(BASE["a"], 9, dtype=np.float32)},
        {"b": np.array([0, -0.0], np.float32)},
        {"c": BASE["b"]},
    ],
    ids=["shape", "type", "one rounding", "sign of zero", "another name"],
)
def test_every_difference_changes_the_digest(change):
    assert digest(BASE | change) != digest(BASE)


def test_the_digest_is_frozen():
    assert digest(BASE) == "468c8aacccea0838144e83df544ddad9ec8f352d90552aa6e700aadf6d20e820"
