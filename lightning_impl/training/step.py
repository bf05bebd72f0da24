"""One training step, as a LightningModule."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils._pytree import tree_map

from lightning_impl.data.samples import Batch
from lightning_impl.device import Device
from lightning_impl.layer_keys import LayerKeys
from lightning_impl.layers import layer_kinds
from lightning_impl.optimizers import build_optimizer, settings_of
from lightning_impl.optimizers.custom import check_storable
from lightning_impl.randomness import step_key
from lightning_impl.remat import recomputed, wrap_blocks
from lightning_impl.sharding import blocks, gather_rows, shard
from lightning_impl.tasks import build_loss
from lightning_impl.training.average import Average
from lightning_impl.training.compiling import compile_parts
from lightning_impl.training.eval_step import EvaluationModule
from lightning_impl.training.gradients import check_gradients, clip_gradients
from pipeline.config.experiment import Config
from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.data.batch_plan import BatchPlan
from pipeline.run.recording.recorder import Recorder
from pipeline.run.recording.step_observer import LayerDraw
from pipeline.training.param_groups import param_groups

# Method of torch's optimizers that checks the capture of a CUDA graph.
CAPTURE_CHECK = "_accelerator_graph_capture_health_check"


class TrainingModule(EvaluationModule):
    """A model with its loss, optimizer and learning-rate schedule.

    Only here: Lightning's steps are methods of a mutable module; Flax's are pure functions of a
    `TrainState`. `recorder` gives the learning rates and the steps at which gradient norms are logged.
    """

    def __init__(
        self, model: nn.Module, config: Config, plan: BatchPlan, recorder: Recorder, device: Device
    ) -> None:
        super().__init__()
        self.model, self.config, self.recorder = model, config, recorder
        self.plan, self.loss = plan, build_loss(config, plan.data, device)
        self.run_device = device  # `device` is Lightning's
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        self.groups = param_groups(shapes, layer_kinds(model), config)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not self.groups[name].frozen)
        self.average: Average | None = None
        self.checks_gradients = device.devices > 1 and not device.sharded  # of the first step
        if (decay := config.train.ema) is not None:
            self.average = Average(model, decay)
            self.average.requires_grad_(False)
        self.register_buffer("norm", torch.zeros((), dtype=device.dtype), persistent=False)
        self.layer_keys = LayerKeys(model)
        self.names_masks = True  # torch's own dropout draws by its name, if masks are shared
        self.drawn: dict[str, LayerDraw] | None = None  # notes its masks
        self.parts: list[torch.Tensor] = []  # sums of the batch's micro-batches so far

    def __setattr__(self, name: str, value: object) -> None:
        """Set `_current_fx_name`, Lightning's current hook, without torch's search for a parameter.

        Lightning sets it thirty times a step.
        """
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)  # pyrefly: ignore[bad-argument-type] torch takes any

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the Lightning callbacks of a user's own model, if it has this method."""
        configure = getattr(self.model, "configure_callbacks", None)
        return configure() if callable(configure) else []

    def configure_model(self) -> None:
        """With fsdp, keep this device's shard of the model; compile it, if the config says so.

        It is compiled before ddp wraps it, and with fsdp block by block, as torch's documentation has it.
        """
        models = [self.model, *([self.average.module] if self.average else [])]
        if self.config.train.remat and not self.recorder.observer.watching:
            wrap_blocks(self.model, self.config.backend.compile)
        if self.run_device.sharded:
            mesh = self.device_mesh["data_parallel"]  # pyrefly: ignore[unsupported-operation] not None
            for model in models:
                shard(model, mesh)
        if self.config.backend.compile:
            parts = [part for model in models for part in self._compiled_parts(model)]
            compile_parts(parts, self.loss, self.config.backend)

    def _compiled_parts(self, model: nn.Module) -> list[nn.Module]:
        found = list(blocks(model)) if self.run_device.sharded else []
        return found or [model]

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the mean loss of one micro-batch; its sums stay on the device.

        For a loss of whole batches it is that of the batch.
        """
        if self.plan.data.task.whole_batch:
            part = self._whole_sums(batch)
        else:
            outputs = self.outputs(batch, len(self.parts))
            part = self.loss.sums(outputs, batch, training=True)
        self.parts.append(self.stacked(part))
        return part[0] / self._terms()

    def outputs(self, batch: Batch, part: int) -> torch.Tensor:
        """Return the model's outputs for one micro-batch."""
        rank = self.run_device.world.rank
        key = step_key(self.config, self.trainer.global_step, part, rank)
        if key is not None:
            self.layer_keys.use(key, rank, self.names_masks, self.drawn)
        return self.loss.outputs(self.model, batch)

    def recomputed_outputs(self, batch: Batch, part: int) -> torch.Tensor:
        """Return the model's outputs for one micro-batch, which are computed again for their gradient."""
        outputs = recomputed(self.model, self.outputs, batch, part, draws=False)
        assert isinstance(outputs, torch.Tensor)
        return outputs

    def _whole_sums(self, batch: Batch) -> list[torch.Tensor]:
        """Return this device's share of the sums of a loss that takes the outputs of a whole batch.

        Of several micro-batches only the outputs are kept, so that the memory is that of one (Gao et al.
        2021).
        """
        task, parts = self.plan.data.task, self.config.train.accumulate
        chunks = {name: field.chunk(parts) for name, field in batch.items()}
        call = self.outputs if parts == 1 else self.recomputed_outputs
        outputs = torch.cat(
            [
                call({name: fields[part] for name, fields in chunks.items()}, part)
                for part in range(parts)
            ]
        )
        fields = {name: batch[name] for name in task.loss_fields}
        if (devices := self.run_device.devices) > 1:
            outputs, fields = gather_rows(outputs), tree_map(gather_rows, fields)
        sums = self.loss.sums(outputs, fields, training=True)
        return [value / devices for value in sums]

    def _terms(self) -> float:
        """Terms of a micro-batch's mean loss on this device: an equal share of those of the whole batch.

        The shares' gradients are averaged, over micro-batches by Lightning and over devices by its strategy.
        """
        parts = self.plan.data.task.summed_parts(self.config.train.accumulate)
        shares = parts * self.run_device.devices
        return self.plan.terms(self.trainer.global_step) / shares

    def zero_loss(self) -> torch.Tensor:
        """Return zero, as a function of all trained parameters."""
        return torch.stack([(parameter * 0).sum() for parameter in self.trained]).sum()

    def step_values(self) -> torch.Tensor:
        """Sums over the batch, then the gradient norm: `[values]`, on the device.

        They are summed over the devices later. The gradient norm is already global, so only rank 0
        contributes it to the sum.
        """
        total = self.parts[0] if len(self.parts) == 1 else torch.stack(self.parts).sum(dim=0)
        self.parts = []
        norm = self.norm if self.run_device.world.is_main else torch.zeros_like(self.norm)
        return torch.cat([total, norm.reshape(1)])

    def show_start(self) -> None:
        """Do nothing; see `step_trace.Watched`."""

    def show(self, values: torch.Tensor) -> None:
        """Do nothing; see `step_trace.Watched`."""

    def configure_gradient_clipping(self, *args: object, **kwargs: object) -> None:
        """Clip the gradients; without clipping by norm, compute the norm only if it will be logged."""
        if self.checks_gradients:
            check_gradients(self.model, self.config)
            self.checks_gradients = False
        needs_norm = self.recorder.intervals.logs(self.trainer.global_step + 1)
        norm = clip_gradients(self.trained, self.config.train, needs_norm)
        if norm is not None:
            self.norm = norm

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; the learning rate is set before every step."""
        named = list(self.model.named_parameters())
        self.trained = [parameter for _, parameter in named if parameter.requires_grad]
        self.optimizer = build_optimizer(
            self.config.optimizer, named, self.groups, self.config.backend.fused
        )
        self.settings = settings_of(self.optimizer, self.config.optimizer)
        if self.run_device.kind == "cpu":
            # Adam's looks for a GPU at every step, by loading a library.
            setattr(self.optimizer, CAPTURE_CHECK, lambda: None)
        return self.optimizer

    @property
    def named_optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer, if its slots have canonical names: those of a user's own have none."""
        return None if isinstance(self.config.optimizer, OwnOptimizerConfig) else self.optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what a checkpoint cannot hold, in the state of a user's own optimizer."""
        if isinstance(self.config.optimizer, OwnOptimizerConfig):
            check_storable(self.optimizer, self.config.optimizer)

    def reapply_hyperparameters(self) -> None:
        """Set the config's hyperparameters again after a checkpoint is loaded, as in flax_impl.

        torch's `load_state_dict` restores decay and betas with the slots.
        """
        for group, settings in zip(self.optimizer.param_groups, self.settings, strict=True):
            group |= settings

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights at the step's learning rate, then their average."""
        step = self._set_learning_rates()
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.follow(self.model, is_first=step == 0)

    def _set_learning_rates(self) -> int:
        """Set the learning rates of the next update; return the number of updates before it."""
        step = self.trainer.global_step
        rate = self.recorder.learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        return step

    @property
    def takes_short_steps(self) -> bool:
        """True if `take_step` does all that Lightning does: the optimizer takes no closure."""
        return not isinstance(self.config.optimizer, OwnOptimizerConfig)

    def take_step(self, batch: Batch, batch_idx: int) -> None:
        """Take a step on one device, in Lightning's order, without hooks; see `EpochLoop`."""
        step = self._set_learning_rates()
        loss = self.trainer.strategy.training_step(batch, batch_idx)  # in its precision
        assert isinstance(loss, torch.Tensor)
        for parameter in self.trained:
            parameter.grad = None
        loss.backward()
        self.configure_gradient_clipping()
        self.optimizer.step()
        if self.average is not None:
            self.average.follow(self.model, is_first=step == 0)
