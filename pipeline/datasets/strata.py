"""Splits that keep the share of every class, and are the same for ever.

Everything follows from one order of the samples in which every prefix holds each class within one
sample of its share. A held-out part is then a suffix and a limited training set is a prefix:
slices, so that memory-mapped arrays stay on disk.
"""

import heapq

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.datasets.data import Split
from pipeline.errors import UserError

# Constant, and not the seed of the run: two seeds must be measured on the same samples.
KEY = 0x74616E64656D  # "tandem"


def stratified_order(targets: np.ndarray, key: int = KEY) -> np.ndarray:
    """An order in which every prefix holds each class within one sample of its share.

    Among `n` samples of which `m` are of a class, the j-th of that class (from 1) goes to a place
    in [(j-1)·n/m, j·n/m]. Placing at each step the sample whose window closes first always fits
    (Steiner and Yeomans, "Level schedules for mixed-model, just-in-time processes", Management
    Science 39(6), 1993). Which samples of a class come first is drawn with `key`.

    Args:
        targets: int64 [n], the classes.
        key: of the Philox generator. Its raw stream is used, which NumPy promises never to
            change, unlike the methods of its Generator.

    Returns:
        int64 [n], a permutation of the indices.
    """
    n = len(targets)
    shuffled = np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")
    classes = [shuffled[targets[shuffled] == value] for value in np.unique(targets)]

    waiting = [(0, label) for label in range(len(classes))]  # (window opens, class), a heap
    open_now: list[tuple[int, int]] = []  # (window closes, class), a heap
    placed = [0] * len(classes)
    order = np.empty(n, np.int64)
    for place in range(n):
        while waiting and waiting[0][0] <= place:
            label = heapq.heappop(waiting)[1]
            closes = -(-(placed[label] + 1) * n // len(classes[label]))
            heapq.heappush(open_now, (closes, label))
        label = heapq.heappop(open_now)[1]
        order[place] = classes[label][placed[label]]
        placed[label] += 1
        if placed[label] < len(classes[label]):
            heapq.heappush(waiting, (placed[label] * n // len(classes[label]), label))
    return order


def stratified_split(
    targets: np.ndarray, fraction: float, key: int = KEY
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a fraction of the samples, every class within one sample of its share.

    Args:
        targets: int64 [n], the classes.
        fraction: in [0, 1); above 0, at least one sample is held out.
        key: of the Philox generator; the same key gives the same split for ever.

    Returns:
        The indices that stay and those held out, each in a stratified order.
    """
    order = stratified_order(targets, key)
    rest = len(order) - held_out_count(len(order), fraction)
    return order[:rest], order[rest:]


def held_out_count(n: int, fraction: float) -> int:
    """How many of `n` samples a fraction holds out: rounded, but not to none."""
    return max(1, round(n * fraction)) if fraction > 0 else 0


def divide(training: Split, config: DatasetConfig) -> tuple[Split, Split]:
    """Hold the validation samples out of the training set, then limit what is left.

    With `dataset.val_fraction=0` nothing is held out and validation is the training samples
    themselves: every run has a validation curve, and this one is measured on what was trained on.

    Args:
        training: the whole training set, already in a stratified order.
        config: its `val_fraction` and `limit`.

    Returns:
        The training and the validation split, as views.

    Raises:
        UserError: nothing would be left to train on, or the limit is larger than the set.
    """
    rest = len(training) - held_out_count(len(training), config.val_fraction)
    if rest < 1:
        raise UserError(
            "dataset.val_fraction",
            config.val_fraction,
            f"small enough to leave some of the {len(training)} samples to train on",
        )
    train = limited(training[:rest], config)
    val = training[rest:] if config.val_fraction > 0 else train
    return train, val


def limited(train: Split, config: DatasetConfig) -> Split:
    """The first `dataset.limit` training samples.

    Raises:
        UserError: there are fewer.
    """
    if config.limit is not None and config.limit > len(train):
        raise UserError(
            "dataset.limit",
            config.limit,
            f"null or at most {len(train)}, the training samples of {config.name}",
        )
    return train[: config.limit]
