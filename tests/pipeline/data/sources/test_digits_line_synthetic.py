"""Data sets that need no files."""

import hashlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipeline.config.datasets import DigitsConfig, LineConfig, ReverseConfig, SyntheticConfig
from pipeline.data import sources
from pipeline.errors import UserError
from pipeline.tasks import Classification, Regression, Seq2Seq


def test_digits_are_split_into_fixed_stratified_parts():
    data = sources.load(DigitsConfig())
    assert (data.name, type(data.task), data.outputs) == ("digits", Classification, 10)
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert [len(data.train), len(data.val), len(data.test)] == [1294, 144, 359]
    assert data.train.fields["image"].shape == (1294, 8, 8, 1)
    assert (data.train.fields["image"].dtype, data.train.fields["label"].dtype) == (
        np.uint8,
        np.int64,
    )
    assert data.train.fields["image"].max() == 16
    mean, _ = data.moments["image"]
    assert (mean.shape, mean.dtype) == ((1,), np.float64)
    for split in (data.train, data.val, data.test):
        assert np.ptp(np.bincount(split.fields["label"], minlength=10) / len(split)) < 0.02
    parts = b"".join(split.fields["image"].tobytes() for split in (data.train, data.val, data.test))
    assert hashlib.sha256(parts).hexdigest().startswith("c59c0e78fb741fb372bd243e6d6b38cd")


def test_the_splits_of_digits_are_complete_and_disjoint():
    from sklearn.datasets import load_digits

    data = sources.load(DigitsConfig())
    got = np.concatenate([split.fields["image"] for split in (data.train, data.val, data.test)])
    rows = sorted(map(bytes, got.reshape(len(got), -1)))
    assert rows == sorted(map(bytes, load_digits().data.astype(np.uint8)))


def test_the_test_set_and_moments_do_not_depend_on_val_fraction_or_limit():
    one = sources.load(DigitsConfig())
    two = sources.load(DigitsConfig(val_fraction=0.5, limit=10))
    np.testing.assert_array_equal(one.test.fields["image"], two.test.fields["image"])
    np.testing.assert_array_equal(one.moments["image"], two.moments["image"])


def test_a_limit_keeps_the_first_samples_and_all_classes():
    whole, few = sources.load(DigitsConfig()), sources.load(DigitsConfig(limit=20))
    np.testing.assert_array_equal(few.train.fields["image"], whole.train.fields["image"][:20])
    assert set(few.train.fields["label"]) == set(range(10))
    np.testing.assert_array_equal(few.val.fields["image"], whole.val.fields["image"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DigitsConfig(limit=1295), r"dataset.limit=1295: must be null or at most 1294"),
        (LineConfig(limit=6), r"dataset.limit=6: must be null or at most 5"),
        (SyntheticConfig(samples=8, limit=9), r"dataset.limit=9: must be null or at most 8"),
        (DigitsConfig(val_fraction=0.9999), r"dataset.val_fraction=0.9999.*leave 1 of the 1438"),
    ],
)
def test_too_large_a_limit_or_val_fraction_is_refused_with_the_available_size(config, words):
    with pytest.raises(UserError, match=words):
        sources.load(config)


def test_the_line_is_the_same_five_points_in_every_split():
    data = sources.load(LineConfig())
    assert (type(data.task), data.outputs) == (Regression, 1)
    for split in (data.train, data.val, data.test):
        np.testing.assert_array_equal(split.fields["features"], [[1.0], [2.0], [3.0], [4.0], [5.0]])
        np.testing.assert_array_equal(split.fields["target"], [[0.0], [1.0], [2.0], [3.0], [4.0]])
        assert (split.fields["features"].dtype, split.fields["target"].dtype) == (
            np.float64,
            np.float64,
        )
    assert data.moments == {}


def test_synthetic_images_have_the_requested_shape_and_are_reproducible():
    config = SyntheticConfig(samples=42, shape=[5, 7, 2], classes=3)
    one, two = sources.load(config), sources.load(config)
    assert [len(one.train), len(one.val), len(one.test)] == [42, 10, 10]
    assert (one.train.fields["image"].shape, one.outputs) == ((42, 5, 7, 2), 3)
    assert (one.train.fields["image"].dtype, one.train.fields["label"].dtype) == (
        np.uint8,
        np.int64,
    )
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(
            getattr(one, split).fields["image"], getattr(two, split).fields["image"]
        )
    assert not np.array_equal(one.val.fields["image"], one.test.fields["image"])
    assert len(sources.load(SyntheticConfig(samples=1, shape=[1, 1, 1])).val) == 1


def test_a_larger_synthetic_set_starts_with_the_smaller_one():
    small = sources.load(SyntheticConfig(samples=10, shape=[3, 3, 1]))
    large = sources.load(SyntheticConfig(samples=50, shape=[3, 3, 1]))
    np.testing.assert_array_equal(small.train.fields["image"], large.train.fields["image"][:10])


def test_synthetic_images_can_be_learned():
    data = sources.load(SyntheticConfig(samples=400, shape=[8, 8, 1]))
    flat = [
        split.fields["image"].reshape(len(split), -1) / 255 for split in (data.train, data.test)
    ]
    model = LogisticRegression(max_iter=200).fit(flat[0], data.train.fields["label"])
    assert model.score(flat[1], data.test.fields["label"]) > 0.9


def test_reversed_sequences_are_fixed_and_padded_at_the_end():
    config = ReverseConfig(samples=400, length=5, vocabulary=7)
    data = sources.load(config)
    assert (data.name, type(data.task), data.outputs) == ("reverse", Seq2Seq, 7)
    assert [len(data.train), len(data.val), len(data.test)] == [400, 100, 100]
    fields = data.train.fields
    assert {name: (array.shape, array.dtype) for name, array in fields.items()} == {
        "source": ((400, 5), np.uint8),
        "target": ((400, 5), np.uint8),
    }
    lengths, tokens = set(), set()
    for source, target in zip(fields["source"].tolist(), fields["target"].tolist(), strict=True):
        length = len([token for token in source if token])
        lengths.add(length)
        tokens |= set(source[:length])
        assert target == source[:length][::-1] + [0] * (5 - length) == target
        assert 0 not in source[:length]
    assert (lengths, tokens) == (set(range(1, 6)), set(range(1, 7)))
    again = sources.load(ReverseConfig(samples=800, length=5, vocabulary=7, limit=400))
    np.testing.assert_array_equal(again.train.fields["source"], fields["source"])
    assert not np.array_equal(fields["source"][:100], data.val.fields["source"])
    assert fields["source"][:2].tolist() == [[3, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    copied = sources.load(ReverseConfig(samples=400, length=5, vocabulary=7, reversed=False))
    for name in ("source", "target"):
        np.testing.assert_array_equal(copied.train.fields[name], fields["source"])
