"""Random crops of stored images: their geometry and colours, and their preparation by threads ahead."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_folders import picture
from PIL import Image, ImageEnhance
from scipy.stats import kstest

from pipeline.data.image_augmentation import (
    CHANGES,
    FLIP,
    ONE,
    WORDS,
    Box,
    ImageAugmentation,
    random_box,
    recoloured,
    sample_words,
)
from pipeline.data.prefetch import AHEAD, Prefetcher, RowRequest
from pipeline.data.stored_images import ImageFile, StoredImages

WIDE = ImageAugmentation((0.08, 1.0), (3 / 4, 4 / 3), True, (0.0, 0.0, 0.0))
SIDES = st.integers(1, 600)


def stored(sizes, size=8, augmentation=WIDE, threads=None):
    """Images of these heights and widths."""
    images = [np.asarray(picture(seed, *shape)) for seed, shape in enumerate(sizes)]
    lengths = np.array([image.size for image in images])
    pixels = np.concatenate([image.ravel() for image in images])
    file = ImageFile(pixels, np.cumsum(lengths) - lengths, np.array(sizes, np.int32))
    rows = np.arange(len(images))
    return StoredImages(file, rows, size, size + 1, augmentation, threads)


@given(SIDES, SIDES, st.integers(0, 2**32), st.floats(0.01, 1), st.floats(0.2, 5))
def test_a_box_lies_within_the_image_and_keeps_to_scale_and_ratio(h, w, seed, least, ratio):
    augmentation = replace(WIDE, scale=(least, 1.0), ratio=(ratio / 1.3, ratio * 1.3))
    for words in sample_words(seed, 0, np.arange(3)).tolist():
        top, left, height, width = random_box(h, w, augmentation, words)
        assert 0 <= top <= h - height
        assert 0 <= left <= w - width
        assert min(height, width) >= 1
        if min(height, width) > 20:  # each side is rounded to whole pixels
            assert ratio / 1.4 < width / height < ratio * 1.4


def test_areas_ratios_and_places_are_uniform():
    boxes = [
        random_box(400, 400, WIDE, words) for words in sample_words(0, 0, np.arange(3000)).tolist()
    ]
    top, left, height, width = np.array(boxes).T
    inside = height * width < 0.7 * 400**2  # larger boxes fit only with some ratios
    area = (height * width / 400**2)[inside]
    assert kstest(area, "uniform", args=(0.08, 0.62)).pvalue > 1e-3
    shape = np.log(width / height)[inside]
    assert kstest(shape, "uniform", args=(np.log(3 / 4), np.log(16 / 9))).pvalue > 1e-3
    small = height < 200
    assert kstest((top / (401 - height))[small], "uniform").pvalue > 1e-3
    both = small & (width < 200)
    places = np.stack([top / (401 - height), left / (401 - width)])[:, both]
    assert abs(np.corrcoef(places)[0, 1]) < 0.1
    assert abs(np.corrcoef(np.stack([area, shape]))[0, 1]) < 0.1
    small = width < 200
    assert kstest((left / (401 - width))[small], "uniform").pvalue > 1e-3


def test_an_image_that_no_box_fits_is_cut_in_the_middle_to_the_nearest_ratio():
    whole = replace(WIDE, scale=(1.0, 1.0))
    words = [0] * WORDS
    assert random_box(10, 100, whole, words) == Box(0, 43, 10, 13)
    assert random_box(100, 10, whole, words) == Box(43, 0, 13, 10)


def test_words_depend_on_seed_epoch_and_sample_alone():
    words = sample_words(3, 1, np.array([5, 0, 7]))
    assert words.shape == (3, WORDS)
    np.testing.assert_array_equal(words[2:], sample_words(3, 1, np.array([7])))
    others = (sample_words(3, 2, np.array([5])), sample_words(4, 1, np.array([5])), words[1:2])
    assert all((words[:1] != other).all() for other in others)


def test_half_of_the_images_are_mirrored_and_none_if_flip_is_off():
    image = np.asarray(picture(0, 6, 6))
    all_words = sample_words(0, 0, np.arange(1000)).tolist()
    flips = sum((recoloured(image, WIDE, words) == image[:, ::-1]).all() for words in all_words)
    assert 430 < flips < 570
    still = replace(WIDE, flip=False)
    assert all((recoloured(image, still, words) == image).all() for words in all_words[:20])


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7, 3.0])
@pytest.mark.parametrize(
    ("change", "enhance"),
    [
        (CHANGES[0], ImageEnhance.Brightness),
        (CHANGES[1], ImageEnhance.Contrast),
        (CHANGES[2], ImageEnhance.Color),
    ],
)
def test_colours_change_as_pillow_enhances_them_within_rounding(change, enhance, factor):
    image = picture(4, 30, 40)
    ours = change(np.asarray(image), round(factor * ONE))
    assert ours.dtype == np.uint8
    wanted = np.asarray(enhance(image).enhance(factor))
    assert np.abs(ours.astype(int) - wanted).max() <= 1
    if factor == 1:
        np.testing.assert_array_equal(ours, image)


def test_jitter_changes_each_image_on_its_own_within_its_limits():
    image = np.full((4, 4, 3), 100, np.uint8)
    bright = replace(WIDE, jitter=(0.2, 0.0, 0.0))
    found = [
        recoloured(image, bright, words)[0, 0, 0]
        for words in sample_words(0, 0, np.arange(500)).tolist()
    ]
    assert (min(found), max(found)) == (80, 120)
    every = replace(WIDE, jitter=(0.4, 0.4, 0.4))
    image = np.asarray(picture(1, 8, 8))
    distinct = {
        recoloured(image, every, w).tobytes() for w in sample_words(0, 0, np.arange(50)).tolist()
    }
    assert len(distinct) == 50


def test_a_crop_is_pillows_part_of_the_image_resized():
    images = stored([(20, 31), (9, 40)])
    words = sample_words(0, 0, np.arange(2))
    for image, row, word in zip(images.take(np.arange(2), words), range(2), words, strict=True):
        top, left, height, width = random_box(*images.file[row].shape[:2], WIDE, word.tolist())
        part = Image.fromarray(images.file[row]).crop((left, top, left + width, top + height))
        wanted = np.asarray(part.resize((8, 8), Image.Resampling.BILINEAR))
        mirrored = bool(word[FLIP] >> np.uint64(63))
        np.testing.assert_array_equal(image, wanted[:, ::-1] if mirrored else wanted)


def test_slices_and_selections_are_views_of_the_same_file():
    images = stored([(9, 12)] * 6)
    part = images[2:5]
    assert (part.shape, len(part), part.ndim, part.dtype) == ((3, 8, 8, 3), 3, 4, np.uint8)
    assert part.file is images.file
    np.testing.assert_array_equal(part[np.array([1])], images[np.array([3])])
    np.testing.assert_array_equal(images.select(np.array([4, 0])).rows, [4, 0])


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_are_the_same_for_any_number_of_threads_and_from_any_step(threads):
    images = stored([(9 + i, 20 - i) for i in range(10)], threads=threads)

    def request(step):
        rows = (np.arange(7) * 3 + step) % 10
        return RowRequest(rows, {"image": sample_words(0, step, rows)})

    with Prefetcher({"image": images}, request) as prepared:
        for step in (0, 1, 2, 5, 6, 3, 4):  # in order, ahead and back
            rows, words = request(step)
            wanted = images.take(rows, words["image"])
            np.testing.assert_array_equal(prepared(step)["image"], wanted)


def test_threads_work_ahead_and_end_with_the_run():
    asked, images = [], stored([(9, 9)] * 4, threads=2)

    def request(step):
        asked.append(step)
        return RowRequest(np.arange(4), {})

    with Prefetcher({"image": images}, request, count=6) as prepared:
        prepared(0)
        assert asked == list(range(AHEAD + 1))
        prepared(4)
        assert asked[AHEAD + 1 :] == [4, 5]  # not beyond the last
        assert [t for t in threading.enumerate() if t.name.startswith("stored fields")]
    assert not [t for t in threading.enumerate() if t.name.startswith("stored fields")]
    with Prefetcher({}, request) as prepared:
        assert prepared(0) == {}


def test_an_error_in_a_thread_is_raised_at_its_step():
    images = stored([(9, 9)] * 3, threads=1)

    def request(step):
        return RowRequest(np.array([step]), {})

    with Prefetcher({"image": images}, request) as prepared:
        assert prepared(2)["image"].shape == (1, 8, 8, 3)
        with pytest.raises(IndexError):
            prepared(3)
