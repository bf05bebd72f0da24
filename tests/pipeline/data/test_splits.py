"""Splits: given, by fraction and by fold, each with every class in its proportion."""

import tracemalloc
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.datasets import DatasetConfig, DigitsConfig, LineConfig
from pipeline.data import sources
from pipeline.data.dataset import Split
from pipeline.data.sample_order import SampleOrder
from pipeline.data.splits import make_splits
from pipeline.data.stratified_order import stratified_order
from pipeline.errors import UserError

some_labels = st.lists(st.integers(0, 6), min_size=3, max_size=120).map(np.array)


def numbered(count, first=0):
    return Split({"place": np.arange(first, first + count)})


def places(split):
    return split.fields["place"].tolist()


def config(**keys):
    return DatasetConfig(name="numbers", root="", **keys)


def proportional(part, labels):
    """True if each class has its share of a part, within one sample."""
    counts = np.bincount(labels[part], minlength=7)
    return np.all(
        abs(counts - len(part) * np.bincount(labels, minlength=7) / len(labels)) < 1 + 1e-9
    )


@given(some_labels)
def test_every_prefix_of_the_order_has_proportional_classes(targets):
    labels, counts = np.unique(targets, return_counts=True)
    ordered = targets[stratified_order(targets)]
    seen = np.cumsum(ordered[:, None] == labels, axis=0)
    share = np.arange(1, len(targets) + 1)[:, None] * counts / len(targets)
    assert np.all(np.abs(seen - share) < 1 + 1e-9)


def test_the_order_depends_on_the_key_and_is_frozen():
    targets = np.arange(50) % 5
    order = stratified_order(targets)
    assert order[-10:].tolist() == [0, 41, 2, 13, 49, 35, 26, 37, 18, 34]
    assert order.tolist() != stratified_order(targets, key=1).tolist()


@given(some_labels, st.floats(0.01, 0.4), st.floats(0, 0.4))
def test_fractions_cut_a_partition_with_proportional_classes(labels, test, val):
    whole = {"train": numbered(len(labels))}
    made = make_splits(whole, config(val_fraction=val), test_fraction=test, labels=labels)
    parts = [places(made.train), places(made.val), places(made.test)]
    parts = parts if val else [parts[0], [], parts[2]]
    assert sorted(chain(*parts)) == list(range(len(labels)))
    assert len(parts[2]) == max(1, round(test * len(labels)))
    assert proportional(parts[2], labels)
    assert sorted(places(made.training)) == sorted(parts[0] + parts[1])


@given(some_labels, st.integers(2, 8), st.floats(0, 0.4))
def test_each_sample_is_tested_in_exactly_one_fold_with_proportional_classes(labels, folds, val):
    folds = min(folds, len(labels))
    labels = labels if len(labels) > 2 * folds else labels % 1  # else proportions mean little
    cut = [config(folds=folds, fold=fold, val_fraction=val) for fold in range(folds)]
    given = {"train": numbered(len(labels)), "val": numbered(2, 900), "test": numbered(2, 950)}
    if len(labels) - -(-len(labels) // folds) < 2:
        return
    made = [make_splits(given, one, labels=labels) for one in cut]
    tested = [places(one.test) for one in made]
    assert sorted(chain(*tested)) == list(range(len(labels)))
    assert np.ptp([len(part) for part in tested]) <= 1
    for one, part in zip(made, tested, strict=True):
        counts = np.bincount(labels[part], minlength=7)
        share = len(part) * np.bincount(labels, minlength=7) / len(labels)
        assert np.all(abs(counts - share) < 2 + 1e-9)  # a part is what two prefixes leave
        rest = set(places(one.train)) | set(places(one.val))
        assert rest == set(range(len(labels))) - set(part)
        assert not val or not set(places(one.train)) & set(places(one.val))


def test_given_splits_stay_as_they_are_and_a_missing_test_set_is_the_validation_set():
    given = {"train": numbered(9), "val": numbered(3, 10), "test": numbered(2, 20)}
    made = make_splits(given, config())
    assert [places(split) for split in made[:3]] == [list(range(9)), [10, 11, 12], [20, 21]]
    del given["test"]
    assert places(make_splits(given, config(), test_fraction=0.5).test) == [10, 11, 12]
    made = make_splits({"train": numbered(10), "test": numbered(2, 20)}, config(val_fraction=0.2))
    assert [places(split) for split in made[:3]] == [list(range(8)), [8, 9], [20, 21]]


def test_samples_without_an_order_are_cut_at_their_end_as_views():
    whole = numbered(20)
    made = make_splits({"train": whole}, config(limit=5), test_fraction=0.2)
    assert [places(split) for split in made[:3]] == [list(range(5)), [14, 15], [16, 17, 18, 19]]
    for split in made:
        assert np.shares_memory(split.fields["place"], whole.fields["place"])
    first = make_splits({"train": whole}, config(folds=4, fold=1))
    assert places(first.test) == [5, 6, 7, 8, 9]


def test_a_billion_samples_are_split_without_an_array_of_their_places(tmp_path):
    with (tmp_path / "vast").open("wb") as file:
        file.truncate(2 * 10**9)  # takes no place on the disk
    vast = Split({"place": np.memmap(tmp_path / "vast", np.uint16, "r")})
    order = SampleOrder(10**9, 0, ("split",))
    tracemalloc.start()
    made = make_splits({"train": vast}, config(), test_fraction=0.1, order=order)
    folds = make_splits({"train": vast}, config(folds=5, fold=2), order=order)
    for split in (*made, *folds):
        assert split.fields["place"][np.array([0, len(split) - 1])].tolist() == [0, 0]
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert [len(split) for split in made[:3]] == [810_000_000, 90_000_000, 100_000_000]
    assert [len(split) for split in folds[:3]] == [720_000_000, 80_000_000, 200_000_000]


def test_samples_are_split_in_an_order_that_is_given():
    order = SampleOrder(50, 0, ("split",))
    made = make_splits({"train": numbered(50)}, config(), test_fraction=0.2, order=order)
    joined = places(made.train) + places(made.val) + places(made.test)
    assert joined == np.asarray(order).tolist()
    assert sorted(joined) == list(range(50)) != joined


def test_validation_is_the_training_set_if_val_fraction_is_zero():
    made = make_splits({"train": numbered(9)}, config(val_fraction=0.0, limit=4), test_fraction=0.2)
    assert made.val is made.train
    assert len(made.train) == 4


def test_the_built_in_data_sets_have_folds():
    data = [sources.load(DigitsConfig(folds=3, fold=fold)) for fold in range(3)]
    images = [one.test.fields["image"].reshape(-1, 64) for one in data]
    assert [len(one) for one in images] == [599, 599, 599]
    whole = sources.load(DigitsConfig())
    every = [whole.train, whole.val, whole.test]
    every = np.concatenate([split.fields["image"].reshape(-1, 64) for split in every])
    assert sorted(map(bytes, np.concatenate(images))) == sorted(map(bytes, every))
    mean, _ = data[0].moments["image"]  # of the samples that are not tested
    seen = [split.fields["image"] for split in (data[0].train, data[0].val)]
    assert mean == pytest.approx(np.concatenate(seen).mean(), rel=1e-12)
    line = sources.load(LineConfig(folds=5, fold=4))
    assert [len(split) for split in (line.train, line.val, line.test)] == [3, 1, 1]


@dataclass
class Refused:
    """Keys that are refused, when the config is made or when a set of so many samples is cut."""

    keys: dict
    words: str
    samples: int = 10


REFUSED = [
    Refused({"folds": 1}, r"dataset\.folds=1: must be null or at least 2"),
    Refused({"folds": 3}, r"dataset\.fold=null: must be in 0 … 2.* To run all: -m dataset\.fold=0,1,2"),
    Refused({"folds": 3, "fold": 3}, r"dataset\.fold=3: must be in 0 … 2"),
    Refused({"fold": 0}, r"dataset\.fold=0: must be left out without dataset\.folds\. Set dataset\.folds=5"),
    Refused({"folds": 11, "fold": 0}, r"dataset\.folds=11: must be at most 10, the samples of numbers"),
    Refused({"val_fraction": 0.96}, r"dataset\.val_fraction=0\.96.*leave 1 of the 8 samples"),
    Refused({"limit": 8}, r"dataset\.limit=8: must be null or at most 7"),
    Refused({}, r"dataset\.test_fraction=0\.2: must be small enough to leave 2 of the 2 samples", 2),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.words[:40])
def test_a_split_that_cannot_be_made_is_refused_with_the_available_size(case):
    with pytest.raises(UserError, match=case.words):
        make_splits({"train": numbered(case.samples)}, config(**case.keys), test_fraction=0.2)
