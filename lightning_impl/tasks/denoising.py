"""Denoising: the noise that was added to an image."""

import torch
from torch import nn

from lightning_impl.device import Device
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.data.dataset import Data
from pipeline.tasks import Denoising


class DenoisingLoss(TaskLoss[Denoising]):
    """Mean squared error of the noise that a model predicts from the noisy image and its level."""

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        super().__init__(data, device, smoothing)
        self.kept = torch.as_tensor(
            self.task.kept_signal(), dtype=self.dtype, device=device.torch_device
        )

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the predicted noise, channels last."""
        kept = self.kept[batch["time"]].reshape(-1, 1, 1, 1)
        noise = batch["noise"].movedim(-1, 1)
        noisy = kept.sqrt() * batch["image"] + (1 - kept).sqrt() * noise
        return self.call(model, noisy, batch["time"]).movedim(1, -1)

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sum."""
        return [(outputs - batch["noise"]).square().mean(dim=(1, 2, 3)).sum()]
