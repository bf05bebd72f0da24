"""Sequence to sequence: a target, token by token, from a source and the tokens before."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_impl.device import PyTree
from flax_impl.tasks.classification import cross_entropies, likeliest
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks.seq2seq import PADDING


class Seq2SeqLoss(TaskLoss):
    """Cross-entropy of logits `[batch, length, vocabulary]`, and the tokens and sequences that are right."""

    def outputs(
        self, apply_fn: Callable, variables: PyTree, batch: Batch, **options: PyTree
    ) -> PyTree:
        """Return a model's logits for the source and the target, one place later."""
        inputs = *(batch[name] for name in self.inputs), later(batch["target"])
        return self.call(apply_fn, variables, *inputs, **options)

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        target = batch["target"]
        is_token = (later(target) != PADDING).at[:, 0].set(True)
        weights = is_token * counted[:, None]
        loss = cross_entropies(outputs, target, smoothing)
        right = likeliest(outputs) == target
        return [
            (loss * weights).sum(),
            weights.sum(),
            (right * weights).sum(),
            ((right | ~is_token).all(axis=-1) * counted).sum(),
        ]

    def per_sample(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the likeliest token at each place, predicted from the correct tokens before it."""
        return {"predicted": outputs.argmax(axis=-1)}


def later(target: jax.Array) -> jax.Array:
    """Return a target one place later, with a token of padding in front."""
    return jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=PADDING)
