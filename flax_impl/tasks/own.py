"""A user's own loss."""

import jax
import jax.numpy as jnp

from flax_impl.device import Device, PyTree
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
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
        fields = self.task.fields_of(outputs, batch)
        if counted is None:
            counted = jnp.ones(self._samples(outputs, fields), self.dtype)
        outputs = jax.tree.map(self._in_dtype, outputs)
        if training and self.task.whole_batch:
            return self._sums_of_first(len(outputs), outputs, fields)
        if training:
            return self.sum_terms(outputs, fields, 0.0, counted)
        return self.sums_of_groups(outputs, fields, counted)

    def sum_terms(
        self, outputs: PyTree, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over the samples that count; the others are padding.

        A loss that returns a mean is called for each sample by itself, one of whole batches without padding.
        Only here: a batch of torch has no padding.
        """
        if self.task.whole_batch:
            return self._sums_without_padding(outputs, batch, counted)
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

    def _sums_without_padding(
        self, outputs: jax.Array, batch: Batch, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over the first samples, as many as are counted.

        The shapes in a compiled program are fixed, so the sums are computed for each number that occurs (all,
        and the rest of each split in its last group), and those for the right number are chosen.
        """
        splits = (self.data.train, self.data.val, self.data.test)
        whole, count = len(outputs), counted.sum()
        numbers = {whole, *(len(split) % self.task.group for split in splits)}
        sums = [jnp.where(count == 0, 0, jnp.nan) for _ in self.task.sums]
        for number in sorted(numbers & {*range(1, whole + 1)}):
            found = self._sums_of_first(number, outputs, batch)
            sums = [jnp.where(count == number, f, s) for f, s in zip(found, sums, strict=True)]
        return sums

    def _sums_of_first(self, number: int, outputs: jax.Array, batch: Batch) -> list[jax.Array]:
        first = jax.tree.map(lambda leaf: leaf[:number], (outputs, batch))
        return [value.sum() if value.ndim else value * number for value in self._values(first)]

    def _samples(self, outputs: PyTree, batch: Batch) -> int:
        return len(outputs) if self.task.whole_batch else len(next(iter(batch.values())))

    def _values(self, arguments: tuple[PyTree, Batch]) -> list[jax.Array]:
        outputs, batch = arguments
        found = self.task.call(self.function, outputs, batch)
        return self.task.in_order(self.function[0], found, self._samples(outputs, batch))

    def _in_dtype(self, leaf: jax.Array) -> jax.Array:
        return leaf.astype(self.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
