"""Rows of random maps give the same maps."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from maps import described, mapping_of

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.names.parsing import parse_block, parse_transform
from pipeline.verify.names.row_search import find_rows
from pipeline.verify.names.rows import apply_rows


@st.composite
def mappings(draw):
    """Maps from a few arrays to others, made of them by a few steps."""
    sides = array_shapes(min_dims=0, max_dims=4, max_side=4)
    left = {f"left.{index}": draw(sides) for index in range(draw(st.integers(1, 3)))}
    numbered = Mapping(described(left), ())
    pool = [numbered.left.elements(index) for index in range(len(left))]
    made = {
        f"right.{index}": draw(changed(draw(st.sampled_from(pool)), pool))
        for index in range(draw(st.integers(1, 3)))
    }
    return mapping_of(left, lambda _: made)


@st.composite
def changed(draw, array, pool):
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=4)):
        array = change(draw, array, pool)
    return array


def _axis(draw, array):
    return draw(st.integers(0, array.ndim - 1))


def _transposed(draw, array, pool):
    return array.transpose(draw(st.permutations(range(array.ndim))))


def _reshaped(draw, array, pool):
    sizes, rest = [], array.size
    while rest > 1:
        sizes.append(draw(st.sampled_from([n for n in range(2, rest + 1) if rest % n == 0])))
        rest //= sizes[-1]
    return array.reshape(sizes)


def _flipped(draw, array, pool):
    return np.flip(array, _axis(draw, array)) if array.ndim else array


def _permuted(draw, array, pool):
    if not array.ndim:
        return array
    axis = _axis(draw, array)
    return array.take(draw(st.permutations(range(array.shape[axis]))), axis)


def _sliced(draw, array, pool):
    if not array.ndim:
        return array
    axis = _axis(draw, array)
    start = draw(st.integers(0, array.shape[axis] - 1))
    stop = draw(st.integers(start + 1, array.shape[axis]))
    return array.take(range(start, stop), axis)


def _joined(draw, array, pool):
    """Beside another array of its shape: itself reversed, or nothing known."""
    if not array.ndim or array.size > 300:
        return array
    other = draw(st.sampled_from([array[::-1], np.full(array.shape, -1)]))
    return np.concatenate([array, other], _axis(draw, array))


def _stacked(draw, array, pool):
    other = draw(st.sampled_from(pool))
    return np.stack([array, other]) if other.shape == array.shape else array


def _shuffled(draw, array, pool):
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(array.size)
    return array.ravel()[order].reshape(array.shape)


CHANGES = [
    _transposed, _reshaped, _flipped, _permuted, _sliced, _joined, _stacked, _shuffled,
]  # fmt: skip


@settings(max_examples=300)
@given(mappings())
def test_rows_of_any_map_give_that_map(mapping):
    rows = find_rows(mapping)
    back = apply_rows(rows, mapping.left.arrays, mapping.right.arrays)
    np.testing.assert_array_equal(back.source, mapping.source)


@settings(max_examples=100)
@given(mappings())
def test_blocks_and_transforms_are_read_as_they_are_written_and_can_be_reversed(mapping):
    shapes = {a.name: a.shape for a in (*mapping.left.arrays, *mapping.right.arrays)}
    for row in find_rows(mapping):
        for text in (row.left, row.right):
            assert str(parse_block(text, [*shapes])) == text
            assert str(parse_block(text)) == text
        transform = parse_transform(row.transform)
        assert str(transform) == row.transform
        if "repeat" in row.transform:
            continue
        block = parse_block(row.left)
        array = block.read(np.arange(np.prod(shapes[block.name])).reshape(shapes[block.name]))
        back = transform.inverse(array.shape).apply(transform.apply(array))
        np.testing.assert_array_equal(back, array)
