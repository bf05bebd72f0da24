"""One training step and one evaluation step, as a LightningModule."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lightning_impl.data import Batch
from lightning_impl.device import Device
from lightning_impl.layers import layer_kinds
from lightning_impl.losses import mean_over, of_each, sums
from lightning_impl.optimizers import build_optimizer
from lightning_impl.randomness import step_key, use_key
from lightning_impl.sharding import shard, whole
from pipeline.config import Config
from pipeline.datasets import Task
from pipeline.errors import UserError
from pipeline.groups import groups
from pipeline.metrics import SUMS
from pipeline.plan import DataPlan
from pipeline.recorder import Recorder


class TrainingModule(LightningModule):
    """A model with its loss, optimizer and schedule.

    Only here: Lightning's steps are methods of a module that changes; Flax's are pure functions, made
    by `make_train_step` and `make_eval_step`, of a `TrainState`.

    Args:
        model: the network.
        config: of the experiment.
        plan: for the task and the mean of the targets.
        recorder: knows the learning rates, and when gradients' norms are read.
        device: for the number type, and which part of the batch is its own.
    """

    def __init__(
        self, model: nn.Module, config: Config, plan: DataPlan, recorder: Recorder, device: Device
    ) -> None:
        super().__init__()
        self.model, self.config, self.task, self.recorder = model, config, plan.data.task, recorder
        self.where = device
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        self.groups = groups(shapes, layer_kinds(model), config)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not self.groups[name].frozen)
        decay = config.train.ema
        self.average = None
        if decay is not None:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
            self.average.requires_grad_(False)
        center = torch.as_tensor(plan.center, dtype=device.dtype)
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("norm", center.new_zeros(()), persistent=False)
        self.parts: list[torch.Tensor] = []  # sums of the batch's parts so far
        self.evaluated: list[torch.Tensor] = []  # sums of the evaluation's batches so far
        self.said: list[torch.Tensor] = []  # of each sample of the test's batches so far

    def __setattr__(self, name: str, value: Any) -> None:
        """Spare torch to ask of a name, thirty times a step, whether it is that of a parameter.

        Lightning notes there which hook it is in.
        """
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def configure_model(self) -> None:
        """With fsdp, keep this device's part of the model; Lightning asks for it here."""
        if self.where.sharded:
            for model in (self.model, self.average and self.average.module):
                if model is not None:
                    shard(model, self.device_mesh["data_parallel"])

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The mean loss of one part of the batch; its sums stay on the device."""
        inputs, targets = batch
        smoothing, rank = self.config.train.label_smoothing, self.where.world.rank
        key = step_key(self.config, self.trainer.global_step, len(self.parts), rank)
        if key is not None:
            use_key(self.model, key, rank)
        part = sums(self.task, self.model(inputs), targets, self.center, smoothing)
        self.parts.append(torch.stack([value.detach().to(self.center.dtype) for value in part]))
        return part[0] / mean_over(self.task, targets)

    def nothing(self) -> torch.Tensor:
        """Zero, which all trained parameters have a part in."""
        return sum((parameter * 0).sum() for parameter in self.trained)

    def step_values(self) -> torch.Tensor:
        """Sums over the batch, then the gradients' norm: `[values]`, on the device.

        Of several devices' the sum is that of the whole batch; so the norm, which is of the whole
        already, is told by the first alone.
        """
        total = self.parts[0] if len(self.parts) == 1 else torch.stack(self.parts).sum(dim=0)
        self.parts = []
        norm = self.norm if self.where.world.first else torch.zeros_like(self.norm)
        return torch.cat([total, norm.reshape(1)])

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip; without clipping by norm, take the norm only where it will be logged."""
        train, parameters = self.config.train, self.trained
        if self.where.devices > 1 and not self.where.sharded:
            check_gradients(self.model, self.config)
        if train.clip_norm is not None:
            self.norm = whole(clip_grad_norm_(parameters, train.clip_norm)).detach()
        elif self.recorder.timetable.logs(self.trainer.global_step + 1):
            gradients = [value.grad for value in parameters if value.grad is not None]
            self.norm = whole(get_total_norm(gradients)).detach()
        if train.clip_value is not None:
            clip_grad_value_(parameters, train.clip_value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer; the learning rate is set before every step."""
        named = list(self.model.named_parameters())
        self.trained = [parameter for _, parameter in named if parameter.requires_grad]
        self.optimizer = build_optimizer(self.config.optimizer, named, self.groups)
        self.settings = [
            {key: value for key, value in group.items() if key not in ("params", "param_names")}
            for group in self.optimizer.param_groups
        ]
        return self.optimizer

    def heed_config(self) -> None:
        """Let the config's numbers win over those in a checkpoint, as they do in flax_impl.

        torch's `load_state_dict` puts back decay and betas with the slots.
        """
        for group, settings in zip(self.optimizer.param_groups, self.settings, strict=True):
            group |= settings

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update at the step's learning rate, and one of the average of the weights."""
        rate = self.recorder.learning_rate(self.trainer.global_step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Sums over one batch, kept on the device."""
        self._answer(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same, and what a classifier says of each sample."""
        outputs = self._answer(batch)
        if self.task is Task.classification:
            self.said.append(of_each(outputs, batch[1], self.center.dtype))

    def _answer(self, batch: Batch) -> torch.Tensor:
        """The model's outputs for a batch, whose sums are kept."""
        inputs, targets = batch
        model = self.model if self.average is None else self.average
        outputs = model(inputs)[: len(targets)]
        part = sums(self.task, outputs, targets, self.center)
        self.evaluated.append(torch.stack([value.to(self.center.dtype) for value in part]))
        return outputs

    def evaluation_sums(self) -> Mapping[str, float]:
        """Sums over all batches evaluated since the last call, read off the devices."""
        totals = self.where.read(self.evaluated).sum(axis=0).tolist()
        self.evaluated = []
        return dict(zip(SUMS[self.task], totals, strict=True))


def check_gradients(model: nn.Module, config: Config) -> None:
    """Refuse a model of which a part has no gradient: with ddp the devices wait for each.

    Only here: XLA has a gradient for every parameter.

    Args:
        model: after a backward pass.
        config: for the key to be told.

    Raises:
        UserError: such a part.
    """
    waiting = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    if waiting:
        raise UserError(
            "accelerator.strategy",
            config.accelerator.strategy.name,
            f"fsdp for a model whose loss does not depend on {', '.join(waiting)}",
            f"Or set train.frozen=[{','.join(waiting)}].",
        )
