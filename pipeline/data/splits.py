"""Splits of a data set: given ones, or parts of the training samples by fraction or by fold.

They depend on the data and on `dataset`, never on the seed of the run, so that runs of different seeds are
evaluated on the same samples.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from pipeline.config.datasets import DatasetConfig
from pipeline.data.dataset import Rows, Split
from pipeline.data.sample_order import SampleOrder
from pipeline.data.stratified_order import stratified_rows
from pipeline.errors import UserError

SPLITS = ("train", "val", "test")

Stratify = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


class Splits(NamedTuple):
    """The samples of a run; without validation samples `val` is `train`."""

    train: Split
    val: Split
    test: Split
    training: Split  # `train` and the held-out `val`, before `dataset.limit`: moments are theirs


def make_splits(
    given: Mapping[str, Split],
    config: DatasetConfig,
    *,
    test_fraction: float = 0.0,
    order: np.ndarray | SampleOrder | None = None,
    labels: np.ndarray | None = None,
    stratify: Stratify = stratified_rows,
) -> Splits:
    """Make the splits of a run.

    With `dataset.folds` the training samples are cut, the part `dataset.fold` is the test set, and other
    given splits are not used. A test set that is not given is the validation set, if that is given, else a
    fraction of the training samples. Validation samples that are not given are held out of the rest.

    Args:
        given: `train`, and `val` and `test` if the data set has them.
        config: fractions, folds and the limit.
        test_fraction: share of the samples for testing, if no test set is given.
        order: permutation of the training samples of which any part stands for the whole;
            None if they are in such an order, or to be cut in the order of a text.
        labels: classes of the training samples, int64 [n], which every split is to hold in their proportion.
        stratify: the function that orders some rows, or all, by the classes of all.

    Raises:
        UserError: a fraction, limit or number of folds asks for more samples than there are.
    """
    train, val, test = (given.get(name) for name in ("train", "val", "test"))
    assert train is not None
    if order is None and labels is not None:
        order = stratify(labels, None)
    rows: Rows = range(len(train)) if order is None else order
    if config.folds is not None:
        rows, fold = cut_fold(rows, config)
        val, test = None, train.select(fold)
    elif test is None:
        test = val
    if test is None:
        rest = rest_of(len(rows), test_fraction, "dataset.test_fraction", config)
        rows, test = rows[:rest], train.select(rows[rest:])
    if labels is not None and len(rows) < len(train):  # what is left has other proportions
        rows = stratify(labels, np.asarray(rows))
    training = train.select(rows)
    used = training
    if val is None and config.val_fraction > 0:
        rest = rest_of(len(training), config.val_fraction, "dataset.val_fraction", config)
        used, val = training[:rest], training[rest:]
    used = limit_train(used, config)
    return Splits(used, used if val is None else val, test, training)


def cut_fold(rows: Rows, config: DatasetConfig) -> tuple[Rows, Rows]:
    """Cut rows into `dataset.folds` parts of equal size, within one; return the others and `dataset.fold`."""
    assert config.folds is not None
    assert config.fold is not None
    if config.folds > len(rows):
        allowed = f"at most {len(rows)}, the samples of {config.name}"
        raise UserError("dataset.folds", config.folds, allowed)
    first, last = (len(rows) * fold // config.folds for fold in (config.fold, config.fold + 1))
    fold = rows[first:last]
    if isinstance(rows, SampleOrder):  # of any size
        return rows.without(range(first, last)), fold
    others = np.concatenate([np.array(part, np.int64) for part in (rows[:first], rows[last:])])
    return others, fold


def rest_of(count: int, fraction: float, key: str, config: DatasetConfig) -> int:
    """Return how many samples are left when a fraction is held out; refuse one that leaves too few."""
    rest = count - held_out_count(count, fraction)
    needed = 2 if key == "dataset.test_fraction" and config.val_fraction > 0 else 1
    if rest < needed:
        allowed = f"small enough to leave {needed} of the {count} samples to train on"
        raise UserError(key, fraction, allowed)
    return rest


def held_out_count(n: int, fraction: float) -> int:
    """Number of samples that a fraction of `n` holds out, rounded; at least 1 unless the fraction is 0."""
    return max(1, round(n * fraction)) if fraction > 0 else 0


def limit_train(train: Split, config: DatasetConfig) -> Split:
    """Return the first `dataset.limit` training samples; raise a UserError if there are fewer."""
    if config.limit is not None and config.limit > len(train):
        allowed = f"null or at most {len(train)}, the training samples of {config.name}"
        raise UserError("dataset.limit", config.limit, allowed)
    return train[: config.limit]
