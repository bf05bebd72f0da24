"""The evaluation of one batch, as steps of a LightningModule."""

from collections.abc import Mapping, Sequence
from operator import itemgetter

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils._pytree import tree_map

from lightning_impl.data.batches import COUNTED
from lightning_impl.data.samples import Batch
from lightning_impl.device import Device
from lightning_impl.tasks import TaskLoss
from lightning_impl.training.average import Average
from pipeline.data.batch_plan import BatchPlan


class EvaluationModule(LightningModule):
    """A model that is evaluated; `TrainingModule` also trains it."""

    model: nn.Module
    average: Average | None
    loss: TaskLoss
    plan: BatchPlan
    run_device: Device
    norm: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.evaluated: list[torch.Tensor] = []  # sums of the evaluation's batches so far
        self.predictions: dict[str, list[torch.Tensor]] = {}  # of the test batches so far

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the sums, which stay on the device."""
        self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the sums, and keep the predictions for its samples, if the task has any."""
        for name, array in self.loss.predictions(*self._evaluate(batch)).items():
            self.predictions.setdefault(name, []).append(array)

    def _evaluate(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        """Add a batch to the sums; return the model's outputs for its samples that count, and these."""
        model = self.model if self.average is None else self.average
        samples = len(batch[COUNTED])
        outputs = self.loss.outputs(model, batch)
        batch = {name: field[:samples] for name, field in batch.items() if name != COUNTED}
        if not samples:
            outputs = tree_map(itemgetter(slice(0)), outputs)
        self.evaluated.append(self.stacked(self.loss.sums(outputs, batch)))
        return outputs, batch

    def evaluation_sums(self) -> Mapping[str, float]:
        """Return the sums over all batches evaluated since the last call, read from the devices."""
        totals = self.run_device.read(self.evaluated).sum(axis=0).tolist()
        self.evaluated = []
        return dict(zip(self.plan.data.sums, totals, strict=True))

    def stacked(self, sums: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the sums over a batch in one tensor `[values]`, without their gradients."""
        return torch.cat([value.detach().to(self.norm.dtype).reshape(-1) for value in sums])
