"""The loss of a task, and what else is summed over a batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn
from torch.utils import _pytree as pytree

from lightning_impl.device import Device
from pipeline.config.models import ModelConfig, OwnConfig
from pipeline.data.dataset import Data
from pipeline.storage.predictions import are_kept
from pipeline.tasks import Task
from pipeline.training.model_calls import calling
from pipeline.training.model_outputs import check_outputs, dataclasses_in, pick_output

Batch = Mapping[str, torch.Tensor]  # the fields by name
Smoothing = float | torch.Tensor  # a scalar if several runs train at once that differ in it
AnyTask = TypeVar("AnyTask", bound=Task)


class TaskLoss(ABC, Generic[AnyTask]):
    """The loss of a task; losses are computed in the dtype of the parameters."""

    model: ModelConfig = OwnConfig()  # whose outputs it takes

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        self.data, self.inputs = data, data.inputs
        self.task = cast("AnyTask", data.task)
        self.dtype, self.classes = device.dtype, data.outputs
        self.smoothing: Smoothing = smoothing

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a model's outputs for a batch; of two views `[batch, 2, …]`."""
        seconds = {name: second for second, name in self.task.views.items() if second in batch}
        if not seconds:
            return self.call(model, *(batch[name] for name in self.inputs))
        pairs = [torch.stack([batch[n], batch[seconds.get(n, n)]], dim=1) for n in self.inputs]
        both = self.call(model, *(pair.flatten(end_dim=1) for pair in pairs))
        outputs = pytree.tree_map(_in_pairs, both)
        check_outputs(outputs, {}, self.task, model=self.model.name)
        return outputs

    def call(self, model: nn.Module, *inputs: torch.Tensor) -> Any:
        """Call a model; of its outputs return the entry that the loss takes."""
        with calling(self.model, "model.torch", inputs):
            found = model(*inputs)
        outputs = pick_output(found, self.model, self.task)
        for one in dataclasses_in(outputs):
            if type(one) not in pytree.SUPPORTED_NODES:
                pytree.register_dataclass(type(one))
        return outputs

    def sums(
        self, outputs: torch.Tensor, batch: Batch, training: bool = False
    ) -> list[torch.Tensor]:
        """Return the sums over a batch, in the order of the task's `sums`.

        Smoothing is for training, and the groups of `Task.group` are for evaluation.
        """
        shapes = {name: tuple(f.shape) for name, f in batch.items()}
        check_outputs(outputs, shapes, self.task, self.classes, self.model.name)
        outputs = outputs.to(self.dtype)
        if training:
            return self.sum_terms(outputs, batch, self.smoothing)
        return self.sums_of_groups(outputs, batch)

    def sums_of_groups(self, outputs: Any, batch: Batch) -> list[torch.Tensor]:
        """Return the sums over a batch of an evaluation; see `Task.group`."""
        size = self.task.group
        if size == 1:
            return self.sum_terms(outputs, batch, 0.0)
        groups = [slice(first, first + size) for first in range(0, len(outputs), size)]
        sums = [
            self.sum_terms(outputs[group], {n: field[group] for n, field in batch.items()}, 0.0)
            for group in groups
        ]
        nothing = [outputs.new_zeros(()) for _ in self.task.sums]  # a device without a sample
        return [torch.stack(parts).sum(dim=0) for parts in zip(*sums, strict=True)] or nothing

    @abstractmethod
    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums.

        `smoothing` is the fraction of each target that is spread evenly over all classes (Szegedy et al.
        2016).
        """

    def predictions(self, outputs: Any, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return what is kept of each test sample `[batch, …]`, by name; nothing if it is too much."""
        found = self.per_sample(outputs, batch)
        shapes = [tuple(array.shape[1:]) for array in found.values()]
        return found if are_kept(shapes, len(self.data.test)) else {}

    def per_sample(self, outputs: Any, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return what says most of each sample `[batch, …]`, by name."""
        return {}


def _in_pairs(leaf: Any) -> Any:
    """Return rows of a batch by two, the views of one sample."""
    return leaf.unflatten(0, (-1, 2)) if isinstance(leaf, torch.Tensor) and leaf.ndim else leaf
