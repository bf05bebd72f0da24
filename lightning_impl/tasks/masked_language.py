"""Masked language: the tokens that were hidden in a sequence."""

import torch
from torch import nn

from lightning_impl.tasks.classification import cross_entropies
from lightning_impl.tasks.task_loss import Batch, TaskLoss
from pipeline.tasks.masked_language import CHOSEN, MASKED, REPLACED


class MaskedLanguageLoss(TaskLoss):
    """Cross-entropy of logits `[batch, length, vocabulary]` at the chosen tokens."""

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a model's logits for tokens, some of them hidden."""
        tokens, change, mask_token = batch["tokens"], batch["change"], self.data.outputs - 1
        other = batch["other"] % mask_token
        hidden = torch.where(change < MASKED + REPLACED, other, tokens)
        hidden = torch.where(change < MASKED, mask_token, hidden)
        return model(torch.where(batch["choice"] < CHOSEN, hidden, tokens))

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: float
    ) -> list[torch.Tensor]:
        """Return the sums."""
        logits, tokens = outputs.flatten(end_dim=-2), batch["tokens"].flatten()
        chosen = batch["choice"].flatten() < CHOSEN
        loss = cross_entropies(logits, tokens, smoothing)
        correct = (logits.argmax(dim=-1) == tokens) & chosen
        return [(loss * chosen).sum(), chosen.sum(), correct.sum()]
