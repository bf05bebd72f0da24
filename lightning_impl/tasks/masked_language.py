"""Masked language: the tokens that were hidden in a sequence."""

import torch
from torch import nn

from lightning_impl.tasks.classification import cross_entropies
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks import MaskedLanguage


class MaskedLanguageLoss(TaskLoss[MaskedLanguage]):
    """Cross-entropy of logits `[batch, length, vocabulary]` at the chosen tokens."""

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a model's logits for tokens, some of them hidden."""
        tokens, change, mask_token = batch["tokens"], batch["change"], self.data.outputs - 1
        other = batch["other"] % mask_token
        hidden = torch.where(change < self.task.changed, other, tokens)
        hidden = torch.where(change < self.task.masked, mask_token, hidden)
        shown = torch.where(batch["choice"] < self.task.chosen, hidden, tokens)
        return self.call(model, shown, *(batch[name] for name in self.inputs[1:]))

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        logits, tokens = outputs.flatten(end_dim=-2), batch["tokens"].flatten()
        chosen = batch["choice"].flatten() < self.task.chosen
        loss = cross_entropies(logits, tokens, smoothing)
        correct = (logits.argmax(dim=-1) == tokens) & chosen
        return [(loss * chosen).sum(), chosen.sum(), correct.sum()]
