"""An order of the samples in which every prefix holds each class in its proportion."""

import heapq

import numpy as np

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
    of_shuffled = np.take(targets, shuffled)
    classes = [shuffled[of_shuffled == value] for value in np.unique(targets)]
    del shuffled, of_shuffled  # as large as all else together

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


def stratified_rows(targets: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Order some rows, or all, by the classes of all rows, as `stratified_order` does: int64."""
    if rows is None:
        return stratified_order(targets)
    return np.take(rows, stratified_order(np.take(targets, rows)))
