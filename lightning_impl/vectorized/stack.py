"""States of several runs in one stack, updated by torch's own optimizers.

Only here: a state of Flax is one tree, which `jax.vmap` maps by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_impl.layers import layer_kinds
from lightning_impl.optimizers import build_optimizer
from lightning_impl.randomness import Dropout
from lightning_impl.training.step import CAPTURE_CHECK, TrainingModule
from pipeline.config.experiment import Config

Tensors = dict[str, Tensor]  # by canonical name
COUNT = "step"  # slot of torch's optimizers with the number of updates


@dataclass
class Row:
    """State of one run; `averages` is empty without `train.ema`, `slots` are by parameter."""

    parameters: Tensors
    buffers: Tensors
    averages: Tensors
    slots: dict[str, Tensors]

    @property
    def nbytes(self) -> int:
        """Size of all tensors."""
        groups = self.parameters, self.buffers, self.averages, *self.slots.values()
        return sum(tensor.nbytes for group in groups for tensor in group.values())

    @classmethod
    def of(cls, module: TrainingModule) -> "Row":
        """Return the state of a module and of its optimizer, which it keeps."""
        saved = set(module.model.state_dict())
        model, average, optimizer = module.model, module.average, module.optimizer
        named = dict(model.named_parameters())
        return cls(
            {name: parameter.detach() for name, parameter in named.items()},
            {name: buffer for name, buffer in model.named_buffers() if name in saved},
            dict(average.module.named_parameters()) if average else {},
            {name: dict(optimizer.state.get(parameter, {})) for name, parameter in named.items()},
        )

    @torch.no_grad()
    def fill(self, module: TrainingModule, step: int) -> None:
        """Copy the state after `step` updates into a module and its optimizer."""
        filled = [(module.model, self.parameters | self.buffers)]
        if module.average is not None:
            filled.append((module.average.module, self.averages | self.buffers))
            module.average.n_averaged.fill_(step)
        for model, tensors in filled:
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                if name in tensors:
                    tensor.copy_(tensors[name])
        for name, parameter in module.model.named_parameters():
            if self.slots.get(name):
                module.optimizer.state[parameter] = dict(self.slots[name])


class _Block:
    """Adjacent runs whose updates have the same numbers, with an optimizer for their rows of the stack."""

    def __init__(self, rows: slice, config: Config, stack: "Stack", module: TrainingModule) -> None:
        self.rows, self.turned = rows, stack.turned
        self.parameters = {
            name: nn.Parameter(stacked.detach()[rows]) for name, stacked in stack.values.items()
        }
        self.optimizer = build_optimizer(
            config.optimizer, self.parameters.items(), module.groups, config.backend.fused
        )
        if module.run_device.kind == "cpu":  # see `TrainingModule.configure_optimizers`
            setattr(self.optimizer, CAPTURE_CHECK, lambda: None)

    def restore(self, slots: Sequence[Mapping[str, Tensors]]) -> None:
        """Take the slots of the rows; the count of updates is the same for all."""
        for name, parameter in self.parameters.items():
            for slot, lead in slots[0][name].items():
                value = lead.clone()
                if slot != COUNT:
                    own = [self.turned(name, one[name][slot]) for one in slots]
                    value = torch.stack([one.to(parameter.device) for one in own])
                self.optimizer.state[parameter][slot] = value

    def slots(self, row: int) -> dict[str, Tensors]:
        """Return copies of the slots of a row, by parameter."""
        own = row - self.rows.start
        return {
            name: {
                slot: value.clone() if slot == COUNT else _copied(self.turned(name, value[own]))
                for slot, value in self.optimizer.state.get(parameter, {}).items()
                if isinstance(value, Tensor)
            }
            for name, parameter in self.parameters.items()
        }

    def update(self, gradients: Tensors, rate: float) -> None:
        """Update the rows at a learning rate."""
        for name, parameter in self.parameters.items():
            # torch's fused kernels on a CPU mix up the numbers of a gradient that is not contiguous.
            parameter.grad = gradients[name][self.rows].contiguous()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        self.optimizer.step()


class Stack:
    """States of runs, each tensor `[runs, …]`, by name.

    Rows with the same numbers in their updates, as `alike` says, are adjacent. `values` are the parameters
    that are trained, and `fixed` all others. Values and averages of linear layers are kept transposed, as the
    gradients of a mapped layer come.
    """

    def __init__(
        self,
        module: TrainingModule,
        rows: Sequence[Row],
        configs: Sequence[Config],
        alike: Sequence[object],
    ) -> None:
        self.device = module.run_device.torch_device
        self.shares = [1 - config.train.ema for config in configs if config.train.ema is not None]
        kinds = layer_kinds(module.model)
        self._linear = {
            name
            for name, parameter in module.model.named_parameters()
            if kinds[name.rpartition(".")[0]] == "linear" and parameter.ndim == 2
        }
        parameters = self._stacked([row.parameters for row in rows])
        self.values = {
            name: stacked.requires_grad_()
            for name, stacked in parameters.items()
            if not module.groups[name].frozen
        }
        self.fixed = {name: one for name, one in parameters.items() if name not in self.values}
        self.buffers = self._stacked([row.buffers for row in rows])
        self.averages = self._stacked([row.averages for row in rows])
        starts = [row for row in range(len(rows)) if row == 0 or alike[row] != alike[row - 1]]
        self.blocks = [
            _Block(slice(start, end), configs[start], self, module)
            for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)
        ]
        for block in self.blocks:
            block.restore([row.slots for row in rows[block.rows]])

    def tensors(self, averaged: bool = False) -> Tensors:
        """Return parameters, or their averages, and buffers."""
        found = self.values | self.fixed | (self.averages if averaged else {}) | self.buffers
        return {name: self.turned(name, stacked) for name, stacked in found.items()}

    def turned(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor of the stack as the model has it, or the other way round."""
        return tensor.mT if name in self._linear else tensor

    def _stacked(self, tensors: Sequence[Tensors]) -> Tensors:
        """Return tensors of runs in one for each name, which is contiguous."""
        return {
            name: torch.stack([self.turned(name, one[name]).to(self.device) for one in tensors])
            for name in tensors[0]
        }

    @torch.no_grad()
    def update(self, gradients: Tensors, rates: Sequence[float], is_first: bool) -> None:
        """Update all runs at their learning rates, then the averages; those of the first are copied."""
        for block in self.blocks:
            block.update(gradients, rates[block.rows.start])
        averages = [self.averages[name] for name in self.values if name in self.averages]
        if not averages:
            return
        values = [value.detach() for value in self.values.values()]
        if is_first or len(set(self.shares)) == 1:
            torch._foreach_lerp_(averages, values, 1.0 if is_first else self.shares[0])
            return
        shares = torch.tensor(self.shares, dtype=values[0].dtype, device=self.device)
        torch._foreach_lerp_(averages, values, [beside(shares, value) for value in values])

    def row(self, row: int) -> Row:
        """Return a copy of the state of a run."""

        def own(tensors: Tensors) -> Tensors:
            return {
                name: _copied(self.turned(name, stacked.detach()[row]))
                for name, stacked in tensors.items()
            }

        [block] = [one for one in self.blocks if one.rows.start <= row < one.rows.stop]
        parameters = own(self.values | self.fixed)
        return Row(parameters, own(self.buffers), own(self.averages), block.slots(row))


def rates_of(model: nn.Module) -> dict[str, float]:
    """Return the rates of the layers that zero numbers, by name."""
    return {n: layer.rate for n, layer in model.named_modules() if isinstance(layer, Dropout)}


def beside(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Return numbers `[runs]` in a shape that fits a tensor `[runs, …]`."""
    return numbers.view(-1, *[1] * (tensor.ndim - 1))


def _copied(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)
