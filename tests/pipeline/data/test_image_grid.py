"""Images scaled for display and arranged in a grid."""

import numpy as np
import pytest

from pipeline.data.image_grid import corners, grid, to_displayable_uint8


def test_pixels_are_scaled_to_255_and_images_of_the_full_range_stay_unchanged():
    assert to_displayable_uint8(np.array([0, 1, 8, 16, 17], np.uint8), 16).tolist() == [
        0,
        16,
        128,
        255,
        255,
    ]
    every = np.arange(256, dtype=np.uint8)
    assert to_displayable_uint8(every, 255).tolist() == every.tolist()
    assert to_displayable_uint8(np.zeros(2, np.uint8), 0).tolist() == [0, 0]


def test_numbers_are_scaled_from_the_smallest_to_the_largest():
    assert to_displayable_uint8(np.array([-1.0, 0.0, 1.0]), 1.0).tolist() == [0, 128, 255]
    assert to_displayable_uint8(np.array([3.0, 3.0]), 3.0).tolist() == [0, 0]


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_grid_holds_each_image_once_at_its_corner_and_is_white_elsewhere(count):
    images = np.random.default_rng(0).integers(0, 255, (count, 5, 9, 3), np.uint8)
    columns = min(count, 3)
    canvas = grid(images, columns)
    for image, (row, column) in zip(images, corners(count, (5, 9), columns), strict=True):
        found = canvas[row : row + 5, column : column + 9]
        np.testing.assert_array_equal(found, image)
        assert (canvas[row - 1] == 255).all(), "room for a caption"
        found[:] = 255
    assert (canvas == 255).all()


def test_images_of_a_grid_are_arranged_row_by_row():
    places = corners(5, (8, 8), 3)
    assert [row for row, _ in places] == [3, 3, 3, 14, 14]
    assert [column for _, column in places] == [1, 10, 19, 1, 10]
