"""Language: the next token at every position of a sequence."""

import torch

from lightning_impl.tasks.classification import cross_entropy
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss


class LanguageLoss(TaskLoss):
    """Cross-entropy of logits `[batch, length, vocabulary]`, and the tokens that are right."""

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        return cross_entropy(outputs.flatten(end_dim=-2), batch["next"].flatten(), smoothing)
