"""Classification: one class for each sample."""

import torch
import torch.nn.functional as F

from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss


class ClassificationLoss(TaskLoss):
    """Cross-entropy of logits `[batch, classes]`, and the samples whose likeliest class is right."""

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
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
    logits: torch.Tensor, targets: torch.Tensor, smoothing: Smoothing
) -> list[torch.Tensor]:
    """Return the sum of the cross-entropies, and the number of right predictions."""
    loss = cross_entropies(logits, targets, smoothing, reduction="sum")
    return [loss, (logits.argmax(dim=-1) == targets).sum()]


def cross_entropies(
    logits: torch.Tensor,
    targets: torch.Tensor,
    smoothing: Smoothing,
    reduction: str = "none",
    ignored: int = -100,
) -> torch.Tensor:
    """Return the cross-entropy of each target, or their sum; targets of the class `ignored` have none.

    torch takes no tensor for the smoothing, but the loss is linear in it.
    """

    def found(smoothing: float) -> torch.Tensor:
        return F.cross_entropy(
            logits, targets, reduction=reduction, ignore_index=ignored, label_smoothing=smoothing
        )

    if isinstance(smoothing, torch.Tensor):
        return found(0.0).lerp(found(1.0), smoothing)
    return found(smoothing)
