"""A user's own loss."""

from typing import Any

import torch
from torch.utils import _pytree as pytree

from lightning_impl.device import Device
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.data.dataset import Data
from pipeline.storage.predictions import name_of
from pipeline.tasks import OwnTask


class OwnLoss(TaskLoss[OwnTask]):
    """The loss at `task.torch`, a function of a model's outputs and a batch."""

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        super().__init__(data, device, smoothing)
        self.function = self.task.loss_of("torch")

    def sums(self, outputs: Any, batch: Batch, training: bool = False) -> list[torch.Tensor]:
        """Return the sums of what the loss returns; outputs are in the dtype of the parameters."""
        fields = self.task.fields_of(outputs, batch)
        outputs = pytree.tree_map(self._in_dtype, outputs)
        if training:
            return self.sum_terms(outputs, fields, 0.0)
        return self.sums_of_groups(outputs, fields)

    def sum_terms(self, outputs: Any, batch: Batch, smoothing: Smoothing) -> list[torch.Tensor]:
        """Return the sums; a mean over the batch is multiplied by the number of samples."""
        samples = len(outputs) if self.task.whole_batch else len(next(iter(batch.values())))
        if not samples:  # on a device without a sample a mean would be NaN
            return [torch.zeros((), dtype=self.dtype) for _ in self.task.sums]
        found = self.task.call(self.function, outputs, batch)
        values = self.task.in_order(self.function[0], found, samples)
        return [value.sum() if value.ndim else value * samples for value in values]

    def per_sample(self, outputs: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the outputs that have a row for each sample."""
        samples = len(next(iter(batch.values())))
        leaves, _ = pytree.tree_flatten_with_path(outputs)
        return {
            name_of(path): self._in_dtype(leaf)
            for path, leaf in leaves
            if isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == samples
        }

    def _in_dtype(self, leaf: Any) -> Any:
        is_float = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        return leaf.to(self.dtype) if is_float else leaf
