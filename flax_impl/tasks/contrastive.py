"""Contrastive learning: which two views are of the same image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_impl.device import PyTree
from flax_impl.tasks.classification import cross_entropies
from flax_impl.tasks.task_loss import Batch, TaskLoss
from pipeline.tasks import Contrastive
from pipeline.training.model_outputs import check_outputs

SMALLEST = 1e-24  # squared length of an embedding that is divided by its length


class ContrastiveLoss(TaskLoss[Contrastive]):
    """NT-Xent of embeddings `[batch, 2, width]`, and the views that find the other one."""

    def outputs(
        self, apply_fn: Callable, variables: PyTree, batch: Batch, **options: PyTree
    ) -> PyTree:
        """Return a model's embeddings of both views, or of one if the batch has no other."""
        seconds = {name: second for second, name in self.task.views.items() if second in batch}
        if not seconds:
            return super().outputs(apply_fn, variables, batch, **options)
        pairs = [jnp.stack([batch[n], batch[seconds.get(n, n)]], axis=1) for n in self.inputs]
        both = self.call(
            apply_fn, variables, *(p.reshape(-1, *p.shape[2:]) for p in pairs), **options
        )
        embeddings, *changed = both if "mutable" in options else (both,)
        if isinstance(embeddings, jax.Array):
            embeddings = embeddings.reshape(-1, 2, *embeddings.shape[1:])
        check_outputs(embeddings, {}, self.task, model=self.model.name)
        return (embeddings, *changed) if changed else embeddings

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: float, counted: jax.Array
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
        return [loss.sum() / 2, ((cosines.argmax(axis=-1) == other) * counted).sum()]
