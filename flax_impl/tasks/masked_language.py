"""Masked language: the tokens that were hidden in a sequence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_impl.device import PyTree
from flax_impl.tasks.classification import cross_entropies, likeliest
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks import MaskedLanguage


class MaskedLanguageLoss(TaskLoss[MaskedLanguage]):
    """Cross-entropy of logits `[batch, length, vocabulary]` at the chosen tokens."""

    def outputs(
        self, apply_fn: Callable, variables: PyTree, batch: Batch, **options: PyTree
    ) -> PyTree:
        """Return a model's logits for tokens, some of them hidden."""
        tokens, change, mask_token = batch["tokens"], batch["change"], self.data.outputs - 1
        other = batch["other"] % mask_token
        hidden = jnp.where(change < self.task.changed, other, tokens)
        hidden = jnp.where(change < self.task.masked, mask_token, hidden)
        shown = jnp.where(batch["choice"] < self.task.chosen, hidden, tokens)
        others = (batch[name] for name in self.inputs[1:])
        return self.call(apply_fn, variables, shown, *others, **options)

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        tokens, chosen = batch["tokens"], (batch["choice"] < self.task.chosen) * counted[:, None]
        loss = cross_entropies(outputs, tokens, smoothing)
        correct = (likeliest(outputs) == tokens) * chosen
        return [(loss * chosen).sum(), chosen.sum(), correct.sum()]
