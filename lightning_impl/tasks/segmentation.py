"""Segmentation: a class for each pixel."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.tasks.classification import cross_entropies
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks import Segmentation


class SegmentationLoss(TaskLoss[Segmentation]):
    """Cross-entropy of logits, and the pixels where prediction and truth meet, by class."""

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a model's logits, classes last."""
        return super().outputs(model, batch).movedim(1, -1)

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        mask, classes = batch["mask"], outputs.shape[-1]
        counted, said = mask != self.task.ignored, outputs.argmax(dim=-1)
        loss = cross_entropies(
            outputs.movedim(-1, 1), mask, smoothing, reduction="sum", ignored=self.task.ignored
        )
        predicted = F.one_hot(said, classes).bool() & counted[..., None]
        true = F.one_hot(mask.where(counted, 0), classes).bool() & counted[..., None]
        return [
            loss,
            counted.sum(),
            ((said == mask) & counted).sum(),
            (predicted & true).sum(dim=(0, 1, 2)),
            (predicted | true).sum(dim=(0, 1, 2)),
        ]

    def per_sample(self, outputs: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the likeliest class of each pixel."""
        return {"predicted": outputs.argmax(dim=-1)}
