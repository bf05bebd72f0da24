"""Contrastive learning: which two views are of the same image."""

import jax
import jax.numpy as jnp

from flax_impl.tasks.classification import cross_entropies, likeliest
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks import Contrastive

SMALLEST = 1e-24  # squared length of an embedding that is divided by its length


class ContrastiveLoss(TaskLoss[Contrastive]):
    """NT-Xent of embeddings `[batch, 2, width]`, and the views that find the other one."""

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums; a view is compared with all others of all samples."""
        views, counted = outputs.reshape(-1, outputs.shape[-1]), counted.repeat(2)
        lengths = jnp.square(views).sum(axis=-1, keepdims=True)
        views = views * jax.lax.rsqrt(jnp.maximum(lengths, SMALLEST))
        cosines = views @ views.T / self.task.config.temperature
        places = jnp.arange(len(views))
        others = (places[:, None] != places) & (counted > 0)
        cosines = jnp.where(others, cosines, -jnp.inf)
        other = places ^ 1
        loss = jnp.where(counted > 0, cross_entropies(cosines, other, smoothing), 0)
        return [loss.sum() / 2, ((likeliest(cosines) == other) * counted).sum()]
