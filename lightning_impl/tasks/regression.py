"""Regression: one or more numbers for each sample."""

import torch

from lightning_impl.device import Device
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.data.dataset import Data
from pipeline.tasks.regression import center


class RegressionLoss(TaskLoss):
    """Mean squared error of predictions `[batch, outputs]`, and sums for the mae and r2."""

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        super().__init__(data, device, smoothing)
        mean = center(data.train.arrays["target"])
        self.center = torch.as_tensor(mean, dtype=self.dtype, device=device.torch_device)

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        error, deviation = outputs - batch["target"], batch["target"] - self.center
        return [
            error.square().mean(dim=-1).sum(),
            error.abs().sum(),
            deviation.sum(),
            deviation.square().sum(),
        ]

    def per_sample(self, outputs: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the outputs."""
        return {"outputs": outputs}
