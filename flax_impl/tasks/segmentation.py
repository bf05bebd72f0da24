"""Segmentation: a class for each pixel."""

import jax
import jax.numpy as jnp

from flax_impl.tasks.classification import cross_entropies, likeliest
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks import Segmentation


class SegmentationLoss(TaskLoss[Segmentation]):
    """Cross-entropy of logits, and the pixels where prediction and truth meet, by class."""

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        mask, classes = batch["mask"], outputs.shape[-1]
        weights = (mask != self.task.ignored) * counted[:, None, None]
        mask, said = jnp.where(mask == self.task.ignored, 0, mask), likeliest(outputs)
        loss = cross_entropies(outputs, mask, smoothing)
        predicted, true = (jax.nn.one_hot(x, classes, dtype=bool) for x in (said, mask))
        return [
            (loss * weights).sum(),
            weights.sum(),
            ((said == mask) * weights).sum(),
            ((predicted & true) * weights[..., None]).sum(axis=(0, 1, 2)),
            ((predicted | true) * weights[..., None]).sum(axis=(0, 1, 2)),
        ]

    def per_sample(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the likeliest class of each pixel."""
        return {"predicted": outputs.argmax(axis=-1)}
