"""Language: the next token at every position of a sequence."""

import jax

from flax_impl.tasks.classification import cross_entropy
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss


class LanguageLoss(TaskLoss):
    """Cross-entropy of logits `[batch, length, vocabulary]`, and the tokens that are right."""

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        return cross_entropy(outputs, batch["next"], smoothing, counted[:, None])
