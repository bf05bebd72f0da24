"""What a model is judged by: the loss that is minimised, and the sums that metrics come from."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from pipeline.datasets import Task


def mean_over(task: Task, targets: jax.Array) -> int:
    """How many values the mean loss of a batch is the mean of: its samples, or all their tokens."""
    return targets.size if task is Task.language else len(targets)


def sums(
    task: Task,
    outputs: jax.Array,
    targets: jax.Array,
    center: jax.Array,
    smoothing: float = 0.0,
    counted: jax.Array | None = None,
) -> list[jax.Array]:
    """Sums over the samples (or all their tokens) of a batch, in the order of `pipeline.metrics.SUMS`.

    Args:
        task: classification, regression or language.
        outputs: logits `[batch, classes]`, predictions `[batch, outputs]`, or logits of tokens
            `[batch, length, tokens]`.
        targets: classes `[batch]`, values `[batch, outputs]`, or tokens `[batch, length]`.
        center: mean of the training targets `[outputs]`; deviations are summed from it.
        smoothing: share of each target that is spread evenly over all classes (Szegedy et al. 2016).
        counted: 1 for a sample, 0 for padding `[batch]`. Only here: a compiled evaluation needs
            batches of one size, where torch takes a smaller last one.
    """
    outputs = outputs.astype(center.dtype)
    counted = jnp.ones(len(targets), center.dtype) if counted is None else counted
    counted = counted.reshape(-1, *(1 for _ in targets.shape[1:]))
    if task is not Task.regression:
        if smoothing:
            soft = optax.smooth_labels(jax.nn.one_hot(targets, outputs.shape[-1]), smoothing)
            loss = optax.softmax_cross_entropy(outputs, soft.astype(outputs.dtype))
        else:
            loss = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        correct = outputs.argmax(axis=-1) == targets
        return [(loss * counted).sum(), (correct * counted).sum()]
    error, deviation = (outputs - targets) * counted, (targets - center) * counted
    return [
        jnp.square(error).mean(axis=-1).sum(),
        jnp.abs(error).sum(),
        deviation.sum(),
        jnp.square(deviation).sum(),
    ]


def of_each(outputs: jax.Array, targets: jax.Array, dtype: Any) -> jax.Array:
    """What a classifier says of each sample: `[batch, values]`, as `pipeline.predictions.COLUMNS`.

    Args:
        outputs: logits `[batch, classes]`.
        targets: classes `[batch]`.
        dtype: of losses.
    """
    outputs = outputs.astype(dtype)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
    confidence = jax.nn.softmax(outputs).max(axis=-1)
    return jnp.stack([outputs.argmax(axis=-1).astype(dtype), loss, confidence], axis=-1)
