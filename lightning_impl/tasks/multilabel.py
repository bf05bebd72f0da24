"""Multilabel: any number of classes for each sample."""

import torch
import torch.nn.functional as F

from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss


class MultilabelLoss(TaskLoss):
    """Binary cross-entropy of logits `[batch, classes]`, and hits and mistakes by class."""

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        labels = batch["labels"].to(outputs.dtype)
        soft = labels * (1 - smoothing) + smoothing / 2  # each label has two classes
        loss = F.binary_cross_entropy_with_logits(outputs, soft, reduction="none")
        said, true = outputs > 0, labels > 0
        return [
            loss.mean(dim=-1).sum(),
            (said & true).sum(dim=0),
            (said & ~true).sum(dim=0),
            (~said & true).sum(dim=0),
        ]

    def per_sample(self, outputs: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the outputs."""
        return {"outputs": outputs}
