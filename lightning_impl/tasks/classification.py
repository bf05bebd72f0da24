"""Classification: one class for each sample."""

import torch
import torch.nn.functional as F

from lightning_impl.tasks.task_loss import Batch, TaskLoss


class ClassificationLoss(TaskLoss):
    """Cross-entropy of logits `[batch, classes]`, and the samples whose likeliest class is right."""

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: float
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        return cross_entropy(outputs, batch["label"], smoothing)

    def per_sample(self, outputs: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the likeliest class, the loss and the probability of the class."""
        outputs = outputs.to(self.dtype)
        loss = F.cross_entropy(outputs, batch["label"], reduction="none")
        confidence = outputs.softmax(dim=-1).amax(dim=-1)
        return {"predicted": outputs.argmax(dim=-1), "loss": loss, "confidence": confidence}


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> list[torch.Tensor]:
    """Return the sum of the cross-entropies, and the number of right predictions."""
    loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    return [loss, (logits.argmax(dim=-1) == targets).sum()]


def cross_entropies(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the cross-entropy of each target."""
    return F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
