"""The loss, and the sums for the metrics."""

import torch
import torch.nn.functional as F

from pipeline.data.dataset import Task
from pipeline.training.model_checks import check_outputs


def mean_over(task: Task, targets: torch.Tensor) -> int:
    """Number of values in the mean loss of a batch: its samples, or all their tokens."""
    return targets.numel() if task is Task.language else len(targets)


def sums(
    task: Task,
    outputs: torch.Tensor,
    targets: torch.Tensor,
    center: torch.Tensor,
    smoothing: float = 0.0,
) -> list[torch.Tensor]:
    """Sums over the samples (or all their tokens) of a batch, in the order of `training.metrics.SUMS`.

    Args:
        task: classification, regression or language.
        outputs: logits `[batch, classes]`, predictions `[batch, outputs]`, or logits of tokens
            `[batch, length, tokens]`.
        targets: classes `[batch]`, values `[batch, outputs]`, or tokens `[batch, length]`.
        center: mean of the training targets `[outputs]`; the sums are of deviations from it.
        smoothing: fraction of each target that is spread evenly over all classes (Szegedy et al. 2016).
    """
    check_outputs(outputs, tuple(targets.shape), task)
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


def per_sample(outputs: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A classifier's predictions `[batch, values]`, as `pipeline.storage.predictions.COLUMNS`.

    Logits are `[batch, classes]`, targets `[batch]`; losses are computed in `dtype`.
    """
    outputs = outputs.to(dtype)
    loss = F.cross_entropy(outputs, targets, reduction="none")
    confidence = outputs.softmax(dim=-1).amax(dim=-1)
    return torch.stack([outputs.argmax(dim=-1).to(dtype), loss, confidence], dim=-1)
