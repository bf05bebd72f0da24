"""Reproducible splits that keep the proportion of every class.

All follow from one order of the samples, in which every prefix holds each class within one sample
of its proportion. A held-out part is a suffix and a limited training set is a prefix: slices, so
memory-mapped arrays stay on disk.
"""

import heapq

import numpy as np

from pipeline.config.datasets import DatasetConfig
from pipeline.data.dataset import Split
from pipeline.errors import UserError

# Constant instead of the run's seed: runs of different seeds are evaluated on the same samples.
KEY = 0x74616E64656D  # "tandem"


def stratified_order(targets: np.ndarray, key: int = KEY) -> np.ndarray:
    """Order samples so that every prefix holds each class within one sample of its proportion.

    With `m` of `n` samples in a class, the j-th of them (from 1) goes to a position in
    [(j-1)·n/m, j·n/m]. Placing the sample whose window closes first always succeeds (Steiner and
    Yeomans, "Level schedules for mixed-model, just-in-time processes", Management Science 39(6),
    1993). The order within a class is random.

    `targets` are classes, int64 [n]; the result is a permutation of their indices, int64 [n].
    """
    # NumPy guarantees the raw stream of Philox, but not the methods of Generator.
    n = len(targets)
    shuffled = np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")
    classes = [shuffled[targets[shuffled] == value] for value in np.unique(targets)]

    waiting = [(0, label) for label in range(len(classes))]  # (window opens, class), a heap
    open_now: list[tuple[int, int]] = []  # (window closes, class), a heap
    placed = [0] * len(classes)
    order = np.empty(n, np.int64)
    for position in range(n):
        while waiting and waiting[0][0] <= position:
            label = heapq.heappop(waiting)[1]
            closes = -(-(placed[label] + 1) * n // len(classes[label]))
            heapq.heappush(open_now, (closes, label))
        label = heapq.heappop(open_now)[1]
        order[position] = classes[label][placed[label]]
        placed[label] += 1
        if placed[label] < len(classes[label]):
            heapq.heappush(waiting, (placed[label] * n // len(classes[label]), label))
    return order


def stratified_split(
    targets: np.ndarray, fraction: float, key: int = KEY
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a fraction of the samples, every class within one sample of its proportion.

    Returns the indices kept and those held out, each in a stratified order.
    """
    order = stratified_order(targets, key)
    rest = len(order) - held_out_count(len(order), fraction)
    return order[:rest], order[rest:]


def held_out_count(n: int, fraction: float) -> int:
    """Number of samples that a fraction of `n` holds out, rounded; at least 1 unless the fraction is 0."""
    return max(1, round(n * fraction)) if fraction > 0 else 0


def split_train_val(training: Split, config: DatasetConfig) -> tuple[Split, Split]:
    """Hold validation samples out of the training set, then apply `dataset.limit` to the rest.

    `training` is the whole training set, in a stratified order; the two splits are views of it. With
    `dataset.val_fraction=0`, validation uses the training samples.
    """
    rest = len(training) - held_out_count(len(training), config.val_fraction)
    if rest < 1:
        allowed = f"small enough to leave some of the {len(training)} samples to train on"
        raise UserError("dataset.val_fraction", config.val_fraction, allowed)
    train = limit_train(training[:rest], config)
    val = training[rest:] if config.val_fraction > 0 else train
    return train, val


def limit_train(train: Split, config: DatasetConfig) -> Split:
    """Return the first `dataset.limit` training samples; raise a UserError if there are fewer."""
    if config.limit is not None and config.limit > len(train):
        allowed = f"null or at most {len(train)}, the training samples of {config.name}"
        raise UserError("dataset.limit", config.limit, allowed)
    return train[: config.limit]
