"""A training step seen from inside: what modules take and give, gradients, and the state after it."""

from functools import partial
from typing import Any

import torch
from torch import nn

from lightning_impl.data import Batch
from lightning_impl.state import to_portable
from lightning_impl.step import TrainingModule
from pipeline.observer import Trace
from pipeline.portable import Arrays, PortableState


class Watch:
    """Notes the inputs and outputs of all modules of a model, in the order of execution.

    Args:
        model: whose forward passes in training are noted; the parts of a batch one after the other.
    """

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[str, list[torch.Tensor]] = {}
        self.calls: dict[str, int] = {}
        for name, module in model.named_modules():
            if name:
                module.register_forward_pre_hook(partial(self._called, name))
                module.register_forward_hook(partial(self._returned, name))

    def begin(self) -> None:
        """A new part of a batch."""
        self.calls = {}

    def take(self) -> Arrays:
        """What was noted since the last time, the parts of the batch joined."""
        seen = {name: torch.cat(parts).numpy() for name, parts in self.seen.items()}
        self.seen = {}
        return seen

    def _called(self, name: str, module: nn.Module, args: tuple) -> None:
        if module.training and args:
            self.calls[name] = self.calls.get(name, 0) + 1
            self._note(name, "input", args[0])

    def _returned(self, name: str, module: nn.Module, args: tuple, output: Any) -> None:
        if module.training and isinstance(output, torch.Tensor):
            self._note(name, "output", output)

    def _note(self, name: str, side: str, tensor: torch.Tensor) -> None:
        called = name if self.calls[name] == 1 else f"{name}#{self.calls[name]}"
        self.seen.setdefault(f"{called} {side}", []).append(_copy(tensor))


class WatchedModule(TrainingModule):
    """A module that keeps what it does in a step. Only here: Flax's steps return it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = Watch(self.model)
        self.batches: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """As ever, and the batch is kept."""
        self.batches.append(tuple(_copy(part) for part in batch))
        self.watch.begin()
        return super().training_step(batch, batch_idx)

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """As ever, and the gradients are kept, before and after."""
        self.gradients = self._gradients()
        super().configure_gradient_clipping(*args, **kwargs)
        self.clipped = self._gradients()

    def _gradients(self) -> Arrays:
        return {
            name: _copy(parameter.grad).numpy()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }


def start_of(module: WatchedModule) -> Trace:
    """The run before its first step, as the core compares it."""
    return Trace(step=module.trainer.global_step, state=_state(module))


def trace(module: WatchedModule, values: torch.Tensor) -> Trace:
    """The last step as the core compares it.

    Args:
        module: that has done it.
        values: of the step.
    """
    inputs, targets = (torch.cat(parts).numpy() for parts in zip(*module.batches, strict=True))
    module.batches = []
    group = module.optimizer.param_groups[0]
    return Trace(
        step=module.trainer.global_step,
        batch={"inputs": inputs, "targets": targets},
        forward=module.watch.take(),
        values=_copy(values).numpy(),
        learning_rate=group["lr"] / group["lr_factor"],
        gradients=module.gradients,
        clipped=module.clipped,
        state=_state(module),
    )


def _state(module: WatchedModule) -> PortableState:
    average = module.average
    averages = {} if average is None else dict(average.module.named_parameters())
    return to_portable(module.trainer.global_step, module.model, module.optimizer, averages)


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """Off the device, sharing no memory; NumPy knows no bf16."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.dtype is torch.bfloat16 else tensor.clone()
