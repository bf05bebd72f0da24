"""Masked language: the tokens that were hidden in a sequence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_impl.device import PyTree
from flax_impl.tasks.classification import cross_entropies
from flax_impl.tasks.task_loss import Batch, TaskLoss
from pipeline.tasks.masked_language import CHOSEN, MASKED, REPLACED


class MaskedLanguageLoss(TaskLoss):
    """Cross-entropy of logits `[batch, length, vocabulary]` at the chosen tokens."""

    def outputs(
        self, apply_fn: Callable, variables: PyTree, batch: Batch, **options: PyTree
    ) -> PyTree:
        """Return a model's logits for tokens, some of them hidden."""
        tokens, change, mask_token = batch["tokens"], batch["change"], self.data.outputs - 1
        other = batch["other"] % mask_token
        hidden = jnp.where(change < MASKED + REPLACED, other, tokens)
        hidden = jnp.where(change < MASKED, mask_token, hidden)
        shown = jnp.where(batch["choice"] < CHOSEN, hidden, tokens)
        return apply_fn(variables, shown, **options)

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: float, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums."""
        tokens, chosen = batch["tokens"], (batch["choice"] < CHOSEN) * counted[:, None]
        loss = cross_entropies(outputs, tokens, smoothing)
        correct = (outputs.argmax(axis=-1) == tokens) * chosen
        return [(loss * chosen).sum(), chosen.sum(), correct.sum()]
