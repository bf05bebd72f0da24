"""Classification: one class for each sample."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss


class ClassificationLoss(TaskLoss):
    """Cross-entropy of logits `[batch, classes]`, and the samples whose likeliest class is right."""

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        return cross_entropy(outputs, batch["label"], smoothing, counted)

    def per_sample(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the likeliest class, the loss and the probability of the class."""
        outputs = outputs.astype(self.dtype)
        loss = cross_entropies(outputs, batch["label"], 0.0)
        confidence = jax.nn.softmax(outputs).max(axis=-1)
        return {"predicted": outputs.argmax(axis=-1), "loss": loss, "confidence": confidence}


def cross_entropy(
    logits: jax.Array, targets: jax.Array, smoothing: Smoothing, counted: jax.Array
) -> list[jax.Array]:
    """Return the sum of the cross-entropies, and the number of right predictions."""
    loss = cross_entropies(logits, targets, smoothing)
    return [(loss * counted).sum(), ((likeliest(logits) == targets) * counted).sum()]


def cross_entropies(logits: jax.Array, targets: jax.Array, smoothing: Smoothing) -> jax.Array:
    """Return the cross-entropy of each target."""
    if isinstance(smoothing, int | float) and not smoothing:
        return jax.nn.logsumexp(logits, axis=-1) - _chosen(logits, targets)
    soft = optax.smooth_labels(jax.nn.one_hot(targets, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, soft.astype(logits.dtype))


def likeliest(logits: jax.Array) -> jax.Array:
    """Return the first index of the largest value along the last axis, as `argmax`; a NaN is the largest.

    XLA's `argmax` is not vectorised on a CPU: nine times slower, 6 % of a step of a small `gpt`. Only here:
    torch's is fast.
    """
    largest, places = logits.max(axis=-1, keepdims=True), jnp.arange(logits.shape[-1])
    found = (logits == largest) | jnp.isnan(logits)
    return jnp.where(found, places, logits.shape[-1]).min(axis=-1)


@jax.custom_vjp
def _chosen(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the logit of each target, in the targets' shape.

    XLA's own gradient is a scatter, which sorts on a GPU; on a CPU it is the faster one.
    """
    return jnp.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)


def _forward(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, tuple]:
    return _chosen(logits, targets), (logits, targets)


def _backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, None]:
    return jax.lax.platform_dependent(*kept, gradient, cpu=_scattered, default=_compared), None


def _scattered(logits: jax.Array, targets: jax.Array, gradient: jax.Array) -> jax.Array:
    chosen = jax.vjp(partial(jnp.take_along_axis, axis=-1), logits, targets[..., None])[1]
    return chosen(gradient[..., None])[0]


def _compared(logits: jax.Array, targets: jax.Array, gradient: jax.Array) -> jax.Array:
    classes = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    return jnp.where(classes == targets[..., None], gradient[..., None], 0)


_chosen.defvjp(_forward, _backward)
