"""Multilabel: any number of classes for each sample."""

import jax
import optax

from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss


class MultilabelLoss(TaskLoss):
    """Binary cross-entropy of logits `[batch, classes]`, and hits and mistakes by class."""

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        labels, counted = batch["labels"].astype(outputs.dtype), counted[:, None]
        soft = labels * (1 - smoothing) + smoothing / 2  # each label has two classes
        loss = optax.sigmoid_binary_cross_entropy(outputs, soft)
        said, true = outputs > 0, labels > 0
        return [
            (loss * counted).mean(axis=-1).sum(),
            ((said & true) * counted).sum(axis=0),
            ((said & ~true) * counted).sum(axis=0),
            ((~said & true) * counted).sum(axis=0),
        ]

    def per_sample(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the outputs."""
        return {"outputs": outputs}
