"""A user's own loss."""

import jax
import jax.numpy as jnp

from flax_impl.device import Device, PyTree
from flax_impl.tasks.task_loss import Batch, TaskLoss
from pipeline.data.dataset import Data
from pipeline.storage.predictions import name_of
from pipeline.tasks import OwnTask


class OwnLoss(TaskLoss[OwnTask]):
    """The loss at `task.jax`, a function of a model's outputs and a batch."""

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        super().__init__(data, device, smoothing)
        self.function = self.task.loss_of("jax")

    def sums(
        self,
        outputs: PyTree,
        batch: Batch,
        training: bool = False,
        counted: jax.Array | None = None,
    ) -> list[jax.Array]:
        """Return the sums of what the loss returns; outputs are in the dtype of the parameters."""
        samples = len(next(iter(batch.values())))
        counted = jnp.ones(samples, self.dtype) if counted is None else counted
        return self.sum_terms(jax.tree.map(self._in_dtype, outputs), batch, 0.0, counted)

    def sum_terms(
        self, outputs: PyTree, batch: Batch, smoothing: float, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums; a mean over the batch is taken sample by sample, as some may be padding."""
        values = self._values((outputs, batch))
        if not all(value.ndim for value in values):
            alone = jax.tree.map(lambda leaf: leaf[:, None], (outputs, batch))
            values = [value.reshape(-1) for value in jax.vmap(self._values)(alone)]
        return [(value * counted).sum() for value in values]

    def per_sample(self, outputs: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Return the outputs that have a row for each sample."""
        samples = len(next(iter(batch.values())))
        leaves, _ = jax.tree.flatten_with_path(outputs)
        return {
            name_of(path): self._in_dtype(leaf)
            for path, leaf in leaves
            if isinstance(leaf, jax.Array) and leaf.ndim and len(leaf) == samples
        }

    def _values(self, arguments: tuple[PyTree, Batch]) -> list[jax.Array]:
        outputs, batch = arguments
        found = self.task.call(self.function, outputs, batch)
        return self.task.in_order(self.function[0], found, len(next(iter(batch.values()))))

    def _in_dtype(self, leaf: jax.Array) -> jax.Array:
        return leaf.astype(self.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
