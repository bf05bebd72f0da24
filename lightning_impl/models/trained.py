"""A trained model outside a run, as users of torch know it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from lightning_impl.data.batches import EvalBatches
from lightning_impl.device import Device
from lightning_impl.tasks import build_loss
from pipeline.config.experiment import Config
from pipeline.config.train import Precision
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split


@dataclass(frozen=True)
class TrainedModel:
    """A `torch.nn.Module` with trained weights, in evaluation mode, and its evaluation on raw samples."""

    module: nn.Module
    config: Config
    plan: BatchPlan
    device: Device

    @property
    def native(self) -> nn.Module:
        """The model as its author knows it."""
        return self.module

    def predict(self, split: Split) -> np.ndarray:
        """Return the outputs for samples as a data set holds them, prepared as in an evaluation.

        For a model that returns several arrays, they are in the same structure.
        """
        batches = EvalBatches(split, self.plan, self.device, self.config.train.eval_batch)
        loss, module = build_loss(self.config, self.plan.data, self.device), self.module.eval()
        with self._computing():
            outputs = [loss.outputs(module, batch) for batch in batches]
        return tree_map(lambda *parts: _in_numpy(torch.cat(parts)), *outputs)

    def call(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the outputs for inputs as the model takes them, but images with channels last."""
        with self._computing():
            loss = build_loss(self.config, self.plan.data, self.device)
            outputs = loss.call(self.module.eval(), *map(self._placed, inputs))
        return _in_numpy(outputs.movedim(1, -1) if outputs.ndim == 4 else outputs)

    def _placed(self, array: np.ndarray) -> torch.Tensor:
        placed = torch.as_tensor(array, device=self.device.torch_device)
        placed = placed.to(self.device.dtype if placed.is_floating_point() else torch.int64)
        return placed.movedim(-1, 1) if placed.ndim == 4 else placed

    @contextmanager
    def _computing(self) -> Generator[None]:
        is_mixed = self.config.train.precision is Precision.bf16
        kind = self.device.torch_device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=is_mixed):
            yield


def _in_numpy(outputs: torch.Tensor) -> np.ndarray:
    outputs = outputs.float() if outputs.dtype is torch.bfloat16 else outputs
    return outputs.cpu().numpy()


def own_device(config: Config) -> Device:
    """Return the CPU as a device, without a change to torch's settings."""
    return Device(kind="cpu", precision=config.train.precision, description="torch on cpu")
