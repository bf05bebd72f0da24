"""Multilabel: any number of classes for each sample."""

from collections.abc import Mapping

import numpy as np

from pipeline.tasks.task import Shapes, Task, by_class


class Multilabel(Task):
    """Binary cross-entropy of the logits, in nats, with `labels`, 0 or 1: both `[batch, classes]`."""

    name = "multilabel"
    targets = ("labels",)
    needs = ("labels [classes]",)
    sums = ("loss", "hits", "false_alarms", "misses")
    has_classes = True
    sums_by_class = ("hits", "false_alarms", "misses")
    one_row = True
    has_predictions = True
    monitor = "macro_f1"
    maximized = frozenset({"macro_f1", "micro_f1"})

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the number of classes."""
        return shapes["labels"][-1]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the loss, the mean F1 of the classes, and the F1 of all labels together.

        A label is predicted if its logit is above 0. F1 is 0 where a class neither occurs nor is predicted.
        """
        hits, false_alarms, misses = (by_class(sums, name) for name in self.sums_by_class)
        return {
            "loss": sums["loss"] / self.terms(shapes),
            "macro_f1": float(f1(hits, false_alarms, misses).mean()),
            "micro_f1": float(f1(hits.sum(), false_alarms.sum(), misses.sum())),
        }

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the labels."""
        return shapes["labels"]


def f1(
    hits: np.ndarray | float, false_alarms: np.ndarray | float, misses: np.ndarray | float
) -> np.ndarray:
    """Return 2·hits / (2·hits + false alarms + misses), and 0 where all are 0."""
    return 2 * hits / np.maximum(2 * hits + false_alarms + misses, 1)
