"""States of several runs in one stack, updated by torch's own optimizers.

Only here: a state of Flax is one tree, which `jax.vmap` maps by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from lightning_impl.optimizers import build_optimizer
from lightning_impl.training.step import CAPTURE_CHECK, TrainingModule
from pipeline.config.experiment import Config
from pipeline.training.param_groups import ParamGroup

Tensors = dict[str, Tensor]  # by canonical name


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


def row_of(module: TrainingModule) -> Row:
    """Return the state of a module and of its optimizer, which it keeps."""
    saved = set(module.model.state_dict())
    model, average, optimizer = module.model, module.average, module.optimizer
    named = dict(model.named_parameters())
    return Row(
        {name: parameter.detach() for name, parameter in named.items()},
        {name: buffer for name, buffer in model.named_buffers() if name in saved},
        dict(average.module.named_parameters()) if average else {},
        {name: dict(optimizer.state.get(parameter, {})) for name, parameter in named.items()},
    )


@torch.no_grad()
def fill(module: TrainingModule, row: Row, step: int) -> None:
    """Copy the state of a run after `step` updates into a module and its optimizer."""
    filled = [(module.model, row.parameters | row.buffers)]
    if module.average is not None:
        filled.append((module.average.module, row.averages | row.buffers))
        module.average.n_averaged.fill_(step)
    for model, tensors in filled:
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name in tensors:
                tensor.copy_(tensors[name])
    for name, parameter in module.model.named_parameters():
        if row.slots.get(name):
            module.optimizer.state[parameter] = dict(row.slots[name])


@dataclass
class _Segment:
    """Parameters of one `ParamGroup`, side by side in one tensor `[runs, numbers]`."""

    group: ParamGroup
    shapes: dict[str, torch.Size] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        return [prod(shape) for shape in self.shapes.values()]

    def joined(self, tensors: Sequence[Tensors]) -> Tensor:
        """Return tensors of runs in one: `[runs, numbers]`."""
        return torch.stack([torch.cat([one[n].reshape(-1) for n in self.shapes]) for one in tensors])

    def parts(self, joined: Tensor) -> Tensors:
        """Return views of a tensor `[…, numbers]`, of each parameter."""
        pieces = zip(self.shapes.items(), joined.split(self.sizes, dim=-1), strict=True)
        return {name: one.reshape(*joined.shape[:-1], *shape) for (name, shape), one in pieces}


class _Block:
    """Adjacent runs whose updates have the same numbers, with an optimizer for the rows of each segment."""

    def __init__(self, rows: slice, config: Config, stack: "Stack") -> None:
        self.rows, self.segments = rows, stack.segments
        self.parameters = [nn.Parameter(values.detach()[rows]) for values in stack.values]
        numbers = [str(number) for number in range(len(stack.segments))]
        self.optimizer = build_optimizer(
            config.optimizer,
            list(zip(numbers, self.parameters, strict=True)),
            dict(zip(numbers, (segment.group for segment in stack.segments), strict=True)),
            config.backend.fused,
        )
        if stack.values[0].device.type == "cpu":  # see `TrainingModule.configure_optimizers`
            setattr(self.optimizer, CAPTURE_CHECK, lambda: None)

    def restore(self, slots: Sequence[Mapping[str, Tensors]]) -> None:
        """Take the slots of the rows."""
        for segment, parameter in zip(self.segments, self.parameters, strict=True):
            first = next(iter(segment.shapes))
            for slot, lead in slots[0][first].items():
                if _is_slot(slot, lead, segment.shapes[first]):
                    own = [{name: one[name][slot] for name in segment.shapes} for one in slots]
                    value = segment.joined(own).to(parameter.device)
                else:
                    value = lead.clone() if isinstance(lead, Tensor) else lead
                self.optimizer.state[parameter][slot] = value

    def slots(self, row: int) -> dict[str, Tensors]:
        """Return copies of the slots of a row, by parameter."""
        found: dict[str, Tensors] = {}
        for segment, parameter in zip(self.segments, self.parameters, strict=True):
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                if _is_slot(slot, value, parameter.shape):
                    parts = segment.parts(value[row - self.rows.start].clone())
                else:
                    parts = {name: value.clone() for name in segment.shapes}
                for name, part in parts.items():
                    found.setdefault(name, {})[slot] = part
        return found

    def update(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update the rows at a learning rate."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient[self.rows]
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        self.optimizer.step()


def _is_slot(name: str, value: object, shape: torch.Size) -> bool:
    """Return whether an optimizer's value has a number for each of a parameter's."""
    return name != "step" and isinstance(value, Tensor) and value.shape == shape


class Stack:
    """States of runs; rows with the same numbers in their updates, as `alike` says, are adjacent."""

    def __init__(
        self,
        module: TrainingModule,
        rows: Sequence[Row],
        configs: Sequence[Config],
        alike: Sequence[object],
    ) -> None:
        self.decay = configs[0].train.ema
        segments: dict[ParamGroup, _Segment] = {}
        fixed = []
        for name, parameter in module.model.named_parameters():
            group = module.groups[name]
            if group.frozen:
                fixed.append(name)
            else:
                segments.setdefault(group, _Segment(group)).shapes[name] = parameter.shape
        self.segments = list(segments.values())
        parameters, averages = [row.parameters for row in rows], [row.averages for row in rows]
        self.values = [one.joined(parameters).requires_grad_() for one in self.segments]
        self.averages = [one.joined(averages) for one in self.segments] if averages[0] else []
        self.fixed = {name: torch.stack([one[name] for one in parameters]) for name in fixed}
        self.buffers = {
            name: torch.stack([row.buffers[name] for row in rows]) for name in rows[0].buffers
        }
        starts = [row for row in range(len(rows)) if row == 0 or alike[row] != alike[row - 1]]
        self.blocks = [
            _Block(slice(start, end), configs[start], self)
            for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)
        ]
        for block in self.blocks:
            block.restore([row.slots for row in rows[block.rows]])

    def tensors(self, averaged: bool = False) -> Tensors:
        """Return parameters, or their averages, and buffers by name, each `[runs, …]`."""
        values = self.averages if averaged and self.averages else self.values
        found = dict(self.fixed)
        for segment, joined in zip(self.segments, values, strict=True):
            found |= segment.parts(joined)
        return found | self.buffers

    def update(self, gradients: Sequence[Tensor], rates: Sequence[float], is_first: bool) -> None:
        """Update all runs at their learning rates, then the averages; those of the first are copied."""
        for block in self.blocks:
            block.update(gradients, rates[block.rows.start])
        for average, values in zip(self.averages, self.values, strict=False):
            if is_first:
                average.copy_(values.detach())
            else:
                assert self.decay is not None
                average.lerp_(values.detach(), 1 - self.decay)

    def row(self, row: int) -> Row:
        """Return a copy of the state of a run."""

        def parts(joined: Sequence[Tensor]) -> Tensors:
            found = {name: values[row].clone() for name, values in self.fixed.items()}
            for segment, values in zip(self.segments, joined, strict=True):
                found |= segment.parts(values[row].detach().clone())
            return found

        [block] = [one for one in self.blocks if one.rows.start <= row < one.rows.stop]
        buffers = {name: values[row].clone() for name, values in self.buffers.items()}
        averages = parts(self.averages) if self.averages else {}
        return Row(parts(self.values), buffers, averages, block.slots(row))
