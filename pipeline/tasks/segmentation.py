"""Segmentation: a class for each pixel."""

from collections.abc import Mapping

import numpy as np

from pipeline.config.tasks import SegmentationConfig
from pipeline.tasks.task import Shapes, Task, by_class


class Segmentation(Task):
    """Cross-entropy of the logits, in nats, with the classes `mask` `[batch, height, width]`.

    Logits are `[batch, height, width, classes]` in JAX, `[batch, classes, height, width]` in torch.
    """

    name = "segmentation"
    targets = ("mask",)
    needs = ("mask [height, width]",)
    sums = ("loss", "pixels", "correct", "intersection", "union")
    sums_by_class = ("intersection", "union")
    has_predictions = True
    monitor = "mean_iou"
    has_classes = True
    maximized = frozenset({"mean_iou", "accuracy"})
    counts_by_content = True

    def __init__(self, config: SegmentationConfig | None = None) -> None:
        super().__init__(config)
        self.ignored = (config or SegmentationConfig()).ignored

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the number of classes."""
        return sizes["mask"]

    def count_terms(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of pixels that are not ignored, at least 1."""
        return max(1, int((batch["mask"] != self.ignored).sum()))

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the mean loss of a pixel, the share of right ones, and the mean IoU.

        It is over the classes that occur or are predicted.
        """
        pixels = max(1.0, sums["pixels"])
        intersection, union = (by_class(sums, name) for name in self.sums_by_class)
        occurs = union > 0
        iou = intersection[occurs] / union[occurs]
        return {
            "loss": sums["loss"] / pixels,
            "accuracy": sums["correct"] / pixels,
            "mean_iou": float(iou.mean()) if occurs.any() else float("nan"),
        }

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of logits, classes last."""
        return (*shapes["mask"], "classes")
