"""Random numbers depend on the seed and their purpose, and on nothing else."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rng import generator

PURPOSE = st.lists(
    st.one_of(st.integers(0, 99), st.text("abc.", min_size=1)), min_size=1, max_size=3
)


@given(seed=st.integers(0, 2**63 - 1), purpose=PURPOSE)
def test_the_same_seed_and_purpose_give_the_same_numbers(seed, purpose):
    first = generator(seed, *purpose).random(5)
    generator(seed + 1, *purpose).random(100)
    np.testing.assert_array_equal(generator(seed, *purpose).random(5), first)


@given(st.integers(0, 99), st.integers(0, 99), PURPOSE, PURPOSE)
def test_another_seed_or_purpose_gives_other_numbers(seed, other_seed, purpose, other):
    same = (seed, *map(str, purpose)) == (other_seed, *map(str, other))
    equal = (generator(seed, *purpose).random(5) == generator(other_seed, *other).random(5)).all()
    assert equal == same


def test_the_numbers_are_frozen():
    code = (
        "from pipeline.rng import generator; print(generator(0, 'order', 1).integers(0, 1000, 5))"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert told.strip() == "[485 761 918 728 928]"
