"""Sequence to sequence: a target, token by token, from a source and the tokens before."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.tasks.classification import cross_entropies
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks.seq2seq import PADDING


class Seq2SeqLoss(TaskLoss):
    """Cross-entropy of logits `[batch, length, vocabulary]`, and the tokens and sequences that are right."""

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a model's logits for the source and the target, one place later."""
        return self.call(model, *(batch[name] for name in self.inputs), later(batch["target"]))

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        target = batch["target"]
        counted = later(target) != PADDING
        counted[:, 0] = True
        loss = cross_entropies(outputs.flatten(end_dim=-2), target.flatten(), smoothing)
        right = outputs.argmax(dim=-1) == target
        return [
            (loss * counted.flatten()).sum(),
            counted.sum(),
            (right & counted).sum(),
            (right | ~counted).all(dim=-1).sum(),
        ]

    def per_sample(self, outputs: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the likeliest token at each place, predicted from the correct tokens before it."""
        return {"predicted": outputs.argmax(dim=-1)}


def later(target: torch.Tensor) -> torch.Tensor:
    """Return a target one place later, with a token of padding in front."""
    return F.pad(target[:, :-1], (1, 0), value=PADDING)
