"""What a model is judged by: the loss that is minimised, and the sums that metrics come from."""

import torch
import torch.nn.functional as F

from pipeline.datasets import Task


def sums(
    task: Task,
    outputs: torch.Tensor,
    targets: torch.Tensor,
    center: torch.Tensor,
    smoothing: float = 0.0,
) -> list[torch.Tensor]:
    """Sums over the samples of a batch, in the order of `pipeline.metrics.SUMS`.

    Args:
        task: classification or regression.
        outputs: logits `[batch, classes]`, or predictions `[batch, outputs]`.
        targets: classes `[batch]`, or values `[batch, outputs]`.
        center: mean of the training targets `[outputs]`; deviations are summed from it.
        smoothing: share of each target that is spread evenly over all classes (Szegedy et al. 2016).
    """
    outputs = outputs.to(targets.dtype if task is Task.regression else center.dtype)
    if task is Task.classification:
        loss = F.cross_entropy(outputs, targets, reduction="sum", label_smoothing=smoothing)
        correct = (outputs.argmax(dim=-1) == targets).sum()
        return [loss, correct]
    error, deviation = outputs - targets, targets - center
    return [
        error.square().mean(dim=-1).sum(),
        error.abs().sum(),
        deviation.sum(),
        deviation.square().sum(),
    ]
