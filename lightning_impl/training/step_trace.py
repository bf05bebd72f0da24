"""Trace of a training step: inputs and outputs of modules, gradients, and the state after it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from lightning_impl.data.samples import Batch
from lightning_impl.state import to_portable
from lightning_impl.training.step import TrainingModule
from pipeline.config.train import Precision
from pipeline.run.recording.step_observer import LayerDraw, Trace
from pipeline.storage.portable_state import Arrays, PortableState
from pipeline.verify.sides.outputs import leaves

T = TypeVar("T")


class Watch:
    """Records the inputs and outputs of all modules of a model in training, in the order of execution."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[str, list[torch.Tensor]] = {}
        self.calls: dict[str, int] = {}
        self.running: list[str] = []  # modules being called, innermost last
        for name, module in model.named_modules():
            if name:
                module.register_forward_pre_hook(partial(self._called, name), with_kwargs=True)
                module.register_forward_hook(partial(self._returned, name))

    def begin(self) -> None:
        """Start a new micro-batch."""
        self.calls, self.running = {}, []

    def layer(self) -> str:
        """Return the name of the module that is being called."""
        return self.running[-1] if self.running else "the model itself"

    def take(self) -> Arrays:
        """Return and clear the record, with the micro-batches joined."""
        seen = {name: torch.cat(parts).numpy() for name, parts in self.seen.items()}
        self.seen = {}
        return seen

    def _called(
        self, name: str, module: nn.Module, args: tuple, kwargs: Mapping[str, object]
    ) -> None:
        if module.training:
            self.running.append(name)
            self.calls[name] = self.calls.get(name, 0) + 1
            self._note(name, "input", (args, kwargs))

    def _returned(self, name: str, module: nn.Module, args: tuple, output: object) -> None:
        if module.training:
            self._note(name, "output", output)
            self.running.pop()

    def _note(self, name: str, side: str, values: object) -> None:
        """Keep the first tensor among some values."""
        called = name if self.calls[name] == 1 else f"{name}#{self.calls[name]}"
        _, tensor = next(leaves(values, torch.is_tensor), ("", None))
        if tensor is not None and tensor.ndim:
            self.seen.setdefault(f"{called} {side}", []).append(_copy(tensor))


class Watched(TrainingModule):
    """A `TrainingModule` that shows its steps to the observer."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.watch = Watch(self.model)
        self.batches: list[Batch] = []
        self.draws: list[LayerDraw] = []
        self.narrow = ""
        is_lifted = self.config.train.precision is Precision.fp64
        self.names_masks = not (self.recorder.observer.compares and is_lifted)
        self.uncompiled: tuple[list[LayerDraw], str] | None = None  # see `_run_uncompiled`

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Take the step, and keep the batch."""
        self.batches.append({name: _copy(field) for name, field in batch.items()})
        self.drawn = {}
        if self.config.backend.compile and self.recorder.observer.compares:
            self.uncompiled = self.uncompiled or self._run_uncompiled(batch)
        loss, self.draws, self.narrow = self._call(partial(super().training_step, batch, batch_idx))
        return loss

    def outputs(self, batch: Batch, part: int) -> torch.Tensor:
        """Return the outputs of a micro-batch, which begins."""
        self.watch.begin()
        return super().outputs(batch, part)

    recomputed_outputs = outputs  # kept: a second pass would be seen, too

    def _evaluate(self, batch: Batch) -> tuple[torch.Tensor, Batch]:
        evaluated, *_ = self._call(partial(super()._evaluate, batch))
        return evaluated

    def _call(self, call: Callable[[], T]) -> tuple[T, list[LayerDraw], str]:
        """Call a method, if models are compared without random numbers of their own.

        Constants can take their place only in a model that is not compiled.
        """
        if self.uncompiled or not self.recorder.observer.compares:
            draws, narrow = self.uncompiled or ([], "")
            return call(), draws, narrow
        return self._call_without_draws(call)

    def _run_uncompiled(self, batch: Batch) -> tuple[list[LayerDraw], str]:
        """Return what the model draws, and where it makes float32, in a pass that leaves no trace."""
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        with torch.random.fork_rng():
            _, draws, narrow = self._call_without_draws(partial(self.outputs, batch, 0))
        for buffer, before in buffers:
            buffer.data.copy_(before)
        self.watch.take()
        kept = [draw for draw in draws if draw.number < 1]  # a dropout of rate 0 draws nothing
        return [replace(draw, kind=f"{draw.kind}, compiled") for draw in kept], narrow

    def _call_without_draws(self, call: Callable[[], T]) -> tuple[T, list[LayerDraw], str]:
        from lightning_impl.verify.primitives.draws import (
            call_without_draws,  # loads what other runs do not need
        )

        lifts = self.config.train.precision is Precision.fp64
        return call_without_draws(call, lifts, self.watch.layer)

    def configure_gradient_clipping(self, *args: object, **kwargs: object) -> None:
        """Clip, and keep the gradients before and after."""
        self.gradients = self._gradients()
        super().configure_gradient_clipping(*args, **kwargs)
        self.clipped = self._gradients()

    def _gradients(self) -> Arrays:
        return {
            name: _copy(parameter.grad).numpy()
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }

    def show_start(self) -> None:
        """Show the run before its first step."""
        state = self._state()
        self.recorder.observer.stepped(Trace(state.step, state))

    def show(self, values: torch.Tensor) -> None:
        """Show the last step, with the state after it."""
        parts, self.batches = self.batches, []
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        group, state = self.optimizer.param_groups[0], self._state()
        trace = Trace(
            step=state.step,
            batch={name: field.numpy() for name, field in batch.items()},
            forward=self.watch.take(),
            values=_copy(values).numpy(),
            terms=self.plan.terms(state.step - 1),
            learning_rate=group["lr"] / group["lr_factor"],
            gradients=self.gradients,
            clipped=self.clipped,
            state=state,
            draws=(*self.draws, *(self.drawn or {}).values()),
            narrow=self.narrow,
        )
        self.recorder.observer.stepped(trace)

    def _state(self) -> PortableState:
        averages = dict(self.average.module.named_parameters()) if self.average else {}
        return to_portable(self.trainer.global_step, self.model, self.named_optimizer, averages)


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to NumPy, with no shared memory; NumPy has no bf16."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.dtype is torch.bfloat16 else tensor.clone()
