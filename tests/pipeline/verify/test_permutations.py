"""Orders of features and of fused projections are found from values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.verify.alignment.permutations import (
    column_order,
    features_last,
    patches,
    row_orders,
)
from pipeline.verify.trace.graph import Window


@given(st.permutations(range(7)), st.permutations(range(5)))
def test_the_order_of_columns_is_found_whatever_the_order_of_rows(columns, rows):
    left = np.random.default_rng(0).standard_normal((5, 7))
    right = left[list(rows)][:, list(columns)]
    assert column_order(left, right, 1e-12).tolist() == list(columns)


def test_channels_are_moved_as_a_whole_even_if_some_features_are_alike():
    """Features that are zero in all samples, after a relu, could go to any place."""
    left = np.random.default_rng(0).standard_normal((2, 3, 4))  # batch, channels, positions
    left[:, 1] = left[:, :, 2] = 0
    order = column_order(left.reshape(2, -1), left.transpose(0, 2, 1).reshape(2, -1), 1e-12)
    assert order.tolist() == np.arange(12).reshape(3, 4).T.ravel().tolist()


def test_other_values_have_no_order():
    random = np.random.default_rng(0)
    assert column_order(random.normal(size=(5, 7)), random.normal(size=(5, 7)), 1e-9) is None
    assert column_order(random.normal(size=(5, 7)), random.normal(size=(5, 6)), 1e-9) is None


def test_features_are_moved_last():
    array = np.arange(24).reshape(2, 3, 4)
    assert features_last(array, [1]).tolist() == array.transpose(0, 2, 1).reshape(-1, 3).tolist()
    assert features_last(array, [-2, -1]).tolist() == array.reshape(2, 12).tolist()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_orders_of_a_fused_projection_hold_that_of_every_head(heads):
    """Fused rows `[heads, 3, size]` hold query, key and value of each head together."""
    parts = [np.arange(8) + 8 * part for part in range(3)]  # outputs of query, key and value
    fused = np.concatenate([part.reshape(heads, -1)[h] for h in range(heads) for part in parts])
    wanted = np.concatenate(parts)
    assert any((fused[order] == wanted).all() for order in row_orders([8, 8, 8]))


def test_parts_of_different_sizes_are_tried_in_every_order():
    found = {tuple(order) for order in row_orders([2, 1])}
    assert found == {(0, 1, 2), (1, 2, 0)}


def test_patches_are_what_a_convolution_multiplies_with_its_kernel():
    """With channels last, two strides, a dilation and padding at one end."""
    images = np.random.default_rng(0).standard_normal((2, 7, 8, 3))
    window = Window("conv", (2, 3), (2, 1), ((1, 0), (0, 2)), (3, 1))
    found = patches(images, window, 3, (3, 2, 3))
    padded = np.pad(images, [(0, 0), (1, 0), (0, 2), (0, 0)])
    expected = [
        padded[image, row : row + 4 : 3, column : column + 3].transpose(2, 0, 1).ravel()
        for image in range(2)
        for row in range(0, 5, 2)
        for column in range(8)
    ]
    np.testing.assert_array_equal(found, expected)
