"""Scenes of digits: the image, the class of each pixel, and the classes that are there."""

import numpy as np
import pytest

from pipeline.config.datasets import ScenesConfig
from pipeline.config.tasks import MultilabelConfig
from pipeline.data.sources import digits, load, scenes
from pipeline.data.sources.scenes import INK, SIDE


def test_every_digit_of_a_scene_is_one_of_its_split_with_its_class_at_its_inked_pixels():
    config = ScenesConfig(samples=80, size=33, cell=11, most=3)
    source, whole = digits.load(digits.DigitsConfig()), scenes.load(config)
    for split, of in ((whole.train, source.train), (whole.test, source.test)):
        known = {image.tobytes(): label for image, label in zip(*of.arrays.values(), strict=True)}
        counts = []
        for image, mask, labels in zip(*split.arrays.values(), strict=True):
            found = []
            for row, column in np.ndindex(33 - SIDE + 1, 33 - SIDE + 1):
                place = np.s_[row : row + SIDE, column : column + SIDE]
                label = known.get(np.ascontiguousarray(image[place]).tobytes())
                if (
                    label is not None
                    and image[place].sum()
                    == image[
                        row // 11 * 11 : row // 11 * 11 + 11,
                        column // 11 * 11 : column // 11 * 11 + 11,
                    ].sum()
                ):
                    np.testing.assert_array_equal(
                        mask[place], np.where(image[place][..., 0] >= INK, label + 1, 0)
                    )
                    found.append(int(label))
            counts.append(len(found))
            assert set(np.flatnonzero(labels)) == set(found)
            assert set(np.unique(mask)) - {0} == {label + 1 for label in found}
        assert set(counts) == {1, 2, 3}


def test_more_scenes_begin_with_the_fewer_and_a_quarter_is_for_testing():
    few, many = (load(ScenesConfig(samples=count)) for count in (8, 20))
    for name, array in few.train.arrays.items():
        np.testing.assert_array_equal(array, many.train.arrays[name][:8])
    assert [len(split) for split in (many.train, many.val, many.test)] == [20, 5, 5]


@pytest.mark.parametrize(
    ("task", "outputs", "fields"),
    [(None, 11, {"image", "mask"}), (MultilabelConfig(), 10, {"image", "labels"})],
    ids=["segmentation", "multilabel"],
)
def test_a_task_gets_the_fields_that_it_needs(task, outputs, fields):
    data = load(ScenesConfig(samples=4), task)
    assert (data.outputs, set(data.train.fields), data.inputs) == (outputs, fields, ("image",))
