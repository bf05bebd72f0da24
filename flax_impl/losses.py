"""The loss, and the sums for the metrics."""

import jax
import jax.numpy as jnp
import optax

from flax_impl.device import DType
from pipeline.data.dataset import Task
from pipeline.training.model_checks import check_outputs


def mean_over(task: Task, targets: jax.Array) -> int:
    """Number of values in the mean loss of a batch: its samples, or all their tokens."""
    return targets.size if task is Task.language else len(targets)


def sums(
    task: Task,
    outputs: jax.Array,
    targets: jax.Array,
    center: jax.Array,
    smoothing: float = 0.0,
    counted: jax.Array | None = None,
) -> list[jax.Array]:
    """Sums over the samples (or all their tokens) of a batch, in the order of `training.metrics.SUMS`.

    Args:
        task: classification, regression or language.
        outputs: logits `[batch, classes]`, predictions `[batch, outputs]`, or logits of tokens
            `[batch, length, tokens]`.
        targets: classes `[batch]`, values `[batch, outputs]`, or tokens `[batch, length]`.
        center: mean of the training targets `[outputs]`; the sums are of deviations from it.
        smoothing: fraction of each target that is spread evenly over all classes (Szegedy et al. 2016).
        counted: 1 for a sample, 0 for padding `[batch]`. Only here: a compiled evaluation needs
            batches of one size; torch takes a smaller last one.
    """
    check_outputs(outputs, targets.shape, task)
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


def per_sample(outputs: jax.Array, targets: jax.Array, dtype: DType) -> jax.Array:
    """A classifier's predictions `[batch, values]`, as `pipeline.storage.predictions.COLUMNS`.

    Logits are `[batch, classes]`, targets `[batch]`; losses are computed in `dtype`.
    """
    outputs = outputs.astype(dtype)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
    confidence = jax.nn.softmax(outputs).max(axis=-1)
    return jnp.stack([outputs.argmax(axis=-1).astype(dtype), loss, confidence], axis=-1)
