"""What a model is judged by: the loss that is minimised, and the sums that metrics come from."""

import torch
import torch.nn.functional as F

from pipeline.datasets import Task


def mean_over(task: Task, targets: torch.Tensor) -> int:
    """How many values the mean loss of a batch is the mean of: its samples, or all their tokens."""
    return targets.numel() if task is Task.language else len(targets)


def sums(
    task: Task,
    outputs: torch.Tensor,
    targets: torch.Tensor,
    center: torch.Tensor,
    smoothing: float = 0.0,
) -> list[torch.Tensor]:
    """Sums over the samples (or all their tokens) of a batch, in the order of `pipeline.metrics.SUMS`.

    Args:
        task: classification, regression or language.
        outputs: logits `[batch, classes]`, predictions `[batch, outputs]`, or logits of tokens
            `[batch, length, tokens]`.
        targets: classes `[batch]`, values `[batch, outputs]`, or tokens `[batch, length]`.
        center: mean of the training targets `[outputs]`; deviations are summed from it.
        smoothing: share of each target that is spread evenly over all classes (Szegedy et al. 2016).
    """
    outputs = outputs.to(targets.dtype if task is Task.regression else center.dtype)
    if task is not Task.regression:
        outputs, targets = outputs.flatten(end_dim=-2), targets.flatten()
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


def of_each(outputs: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What a classifier says of each sample: `[batch, values]`, as `pipeline.predictions.COLUMNS`.

    Args:
        outputs: logits `[batch, classes]`.
        targets: classes `[batch]`.
        dtype: of losses.
    """
    outputs = outputs.to(dtype)
    loss = F.cross_entropy(outputs, targets, reduction="none")
    confidence = outputs.softmax(dim=-1).amax(dim=-1)
    return torch.stack([outputs.argmax(dim=-1).to(dtype), loss, confidence], dim=-1)
