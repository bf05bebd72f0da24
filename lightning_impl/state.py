"""Between torch's state and the portable one. Canonical names and layouts are torch's, so: copies."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from lightning_impl.layers import layer_kinds
from pipeline.config import Config
from pipeline.initial import initial_parameters
from pipeline.portable import Arrays, PortableState


def initial_state(model: nn.Module, config: Config) -> PortableState:
    """The run at step 0: parameters drawn by the core, buffers as the model makes them."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    parameters = initial_parameters(shapes, layer_kinds(model), config.seed, config.model.init)
    buffers = {name: _to_numpy(buffer) for name, buffer in model.named_buffers()}
    return PortableState(step=0, parameters=parameters, buffers=buffers)


def to_portable(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, torch.Tensor],
) -> PortableState:
    """Copy a run out of torch."""
    return PortableState(
        step=step,
        parameters=parameters_of(model),
        buffers={name: _to_numpy(buffer) for name, buffer in model.named_buffers()},
        slots=slots_of(model, optimizer),
        averages={name: _to_numpy(average) for name, average in averages.items()},
    )


def from_portable(state: PortableState, model: nn.Module) -> None:
    """Copy parameters and buffers into a model, in its own number type.

    Raises:
        KeyError: the model has a parameter that the state lacks.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(state.parameters[name]))
        for name, buffer in model.named_buffers():
            buffer.copy_(torch.from_numpy(state.buffers[name]))


def parameters_of(model: nn.Module) -> Arrays:
    """A model's parameters by canonical name."""
    return {name: _to_numpy(parameter) for name, parameter in model.named_parameters()}


def slots_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Arrays]:
    """Optimizer slots by name; step counts are left out, since the run's step says the same."""
    slots: dict[str, Arrays] = {}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state[parameter].items():
            if slot != "step" and value is not None:
                slots.setdefault(slot, {})[name] = _to_numpy(value)
    return slots


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy that shares no memory with the tensor."""
    return tensor.detach().cpu().numpy().copy()
