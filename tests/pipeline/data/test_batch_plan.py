"""The batch plan is a pure function of seed and step, whatever the batch size."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pipeline.data.batch_plan import (
    AUGMENT,
    Augmentation,
    BatchPlan,
    augmentation_draws,
    make_batch_plan,
)
from pipeline.data.dataset import Data, Split
from pipeline.data.sample_order import epoch_order
from pipeline.data.sources import load
from pipeline.errors import UserError
from pipeline.tasks import Classification, Contrastive, Regression, Segmentation

SAME = "dataset.augment=true dataset.crop_padding=0 dataset.flip=false"
SEEDS, EPOCHS, SIZES = st.integers(0, 2**63 - 1), st.integers(0, 1000), st.integers(1, 300)


def plan(samples, batch, seed=0, augmentation=None):
    images = np.zeros((samples, 2, 2, 1), np.uint8)
    split = Split({"image": images, "label": np.zeros(samples, np.int64)})
    data = Data("test", Classification(), split, split, split, {"label": 2}, {})
    return BatchPlan(data, seed, batch, augmentation)


@given(SEEDS, EPOCHS, st.integers(1, 40), st.integers(1, 100))
def test_batches_of_an_epoch_repeat_no_sample_and_drop_only_the_tail(seed, epoch, batch, extra):
    samples = batch + extra
    drawn = plan(samples, batch, seed)
    steps = drawn.steps_per_epoch
    batches = [drawn.indices(epoch * steps + step) for step in range(steps)]
    assert {len(indices) for indices in batches} == {batch}
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen) > samples - batch
    np.testing.assert_array_equal(seen, epoch_order(seed, epoch, samples, 0, len(seen)))


@given(SEEDS, EPOCHS, SIZES, st.integers(0, 8), st.booleans())
def test_crop_offsets_lie_within_the_padding_and_the_flip_is_a_bit(
    seed, epoch, size, padding, flip
):
    draws = augmentation_draws(seed, epoch, np.arange(size), Augmentation(padding, flip))
    assert draws.shape == (size, 3)
    assert draws.min() >= 0
    assert draws[:, :2].max() <= 2 * padding
    assert set(draws[:, 2]) <= ({0, 1} if flip else {0})


def test_every_offset_and_flip_is_equally_likely_in_every_epoch_and_of_every_sample():
    by_epoch = np.stack(
        [augmentation_draws(0, e, np.arange(300), Augmentation(2, True)) for e in range(300)]
    )
    for draws in (by_epoch.reshape(-1, 3), by_epoch[:, 7], by_epoch[7]):
        cells = (draws * [10, 2, 1]).sum(axis=1)
        assert chisquare(np.bincount(cells, minlength=50)).pvalue > 1e-3


@given(SEEDS, EPOCHS, st.integers(1, 60), st.integers(1, 60))
def test_the_augmentation_of_a_sample_does_not_depend_on_the_batch_size(seed, epoch, one, other):
    per_sample = []
    for batch in (one, other):
        drawn = plan(60, batch, seed, Augmentation(4, True))
        steps = range(epoch * drawn.steps_per_epoch, (epoch + 1) * drawn.steps_per_epoch)
        per_sample.append(
            {
                int(sample): tuple(draw)
                for step in steps
                for sample, draw in zip(
                    drawn.indices(step), drawn.draws(step)[AUGMENT], strict=True
                )
            }
        )
    both = per_sample[0].keys() & per_sample[1].keys()
    assert both
    assert all(per_sample[0][sample] == per_sample[1][sample] for sample in both)


def test_flipping_does_not_change_the_crop():
    flipped = augmentation_draws(0, 0, np.arange(50), Augmentation(4, True))
    still = augmentation_draws(0, 0, np.arange(50), Augmentation(4, False))
    np.testing.assert_array_equal(flipped[:, :2], still[:, :2])
    assert flipped[:, 2].any()


def test_the_views_of_an_image_are_cropped_apart_and_in_an_evaluation_always_alike():
    images = np.zeros((90, 4, 4, 1), np.uint8)
    data = Data("made", Contrastive(), *[Split({"image": images})] * 3, {}, {})
    data = data.for_task(Contrastive())
    assert data.train.fields["view"] is data.train.fields["image"]
    assert data.train.nbytes == images.nbytes
    drawn = BatchPlan(data, 0, 40, Augmentation(4, True))
    assert drawn.augmented == (("image", AUGMENT), ("view", f"{AUGMENT}/view"))
    first, second = (drawn.draws(1)[name] for _, name in drawn.augmented)
    np.testing.assert_array_equal(first, plan(90, 40, 0, Augmentation(4, True)).draws(1)[AUGMENT])
    assert (first != second).any(axis=1).sum() > 30
    whole = drawn.evaluation_draws(data.val, np.arange(90))
    part = replace(drawn, seed=3).evaluation_draws(data.val, np.array([7, 50]))
    for name in (AUGMENT, f"{AUGMENT}/view"):
        np.testing.assert_array_equal(part[name], whole[name][[7, 50]])
        assert not (whole[name][:40] == drawn.draws(0)[name]).all()
    assert (whole[AUGMENT] != whole[f"{AUGMENT}/view"]).any(axis=1).sum() > 70


def test_views_that_would_be_the_same_are_refused(configure):
    for overrides, key in (("", "dataset.augment"), (SAME, "dataset.crop_padding")):
        config = configure(f"dataset=digits task=contrastive {overrides}")
        with pytest.raises(UserError, match="task=contrastive compares would be the same") as found:
            make_batch_plan(config, load(config.dataset, config.task))
        assert found.value.key == key


def test_a_step_of_a_billion_samples_takes_the_memory_of_its_batch():
    fields = {
        "image": np.broadcast_to(np.uint8(0), (10**9, 2, 2, 1)),
        "label": np.broadcast_to(np.int64(0), 10**9),
    }
    data = Data("vast", Classification(), *[Split(fields)] * 3, {"label": 2}, {})
    vast = BatchPlan(data, 0, 32, Augmentation(4, True))
    last = vast.steps_per_epoch - 1
    tracemalloc.start()
    drawn = np.stack([vast.indices(step) for step in (0, 1, 5_000, last, last + 1)])
    assert vast.draws(last)[AUGMENT].shape == (32, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(np.unique(drawn)) == drawn.size
    assert np.all(np.histogram(drawn, 4, (0, 10**9))[0] > 25)


def test_the_plan_follows_the_config(configure):
    config = configure(
        "dataset.augment=true dataset.crop_padding=3 dataset.flip=false seed=5 train.batch_size=9"
    )
    made = make_batch_plan(config, plan(100, 1).data)
    assert (made.seed, made.batch_size) == (5, 9)
    assert made.augmentation == Augmentation(padding=3, flip=False)
    assert make_batch_plan(configure(), made.data).augmentation is None
    assert make_batch_plan(configure(), made.data).draws(0) == {}


def test_augmenting_images_without_their_masks_is_refused(configure):
    split = Split({"image": np.zeros((5, 4, 4, 1), np.uint8), "mask": np.zeros((5, 4, 4), int)})
    data = Data("scenes", Segmentation(), split, split, split, {"mask": 2}, {})
    with pytest.raises(UserError, match=r"task=segmentation: mask is not cropped with the image"):
        make_batch_plan(configure("dataset.augment=true"), data)


def test_augmenting_vectors_is_refused(configure):
    config = configure("model=linear dataset=line dataset.augment=true")
    vectors = Split({"features": np.zeros((5, 1)), "target": np.zeros((5, 1))})
    data = Data("line", Regression(), vectors, vectors, vectors, {}, {})
    with pytest.raises(UserError, match=r"dataset\.augment=true: must be false for line"):
        make_batch_plan(config, data)
