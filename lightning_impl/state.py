"""Between torch's state and the portable one. Canonical names and layouts are torch's, so: copies."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from lightning_impl.layers import layer_kinds
from pipeline.config import Config
from pipeline.initial import initial_parameters
from pipeline.portable import COUNTER, Arrays, PortableState


def initial_state(model: nn.Module, config: Config) -> PortableState:
    """The run at step 0: parameters drawn by the core, batch statistics of nothing seen yet.

    Args:
        model: for names, shapes and kinds of layers.
        config: names the distribution.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    parameters = initial_parameters(shapes, layer_kinds(model), config.seed, config.model.init)
    return PortableState(0, parameters, buffers_of(model))


def to_portable(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, torch.Tensor],
) -> PortableState:
    """Copy a run out of torch.

    Args:
        step: updates done.
        model: the network.
        optimizer: over its parameters.
        averages: of the parameters; empty without `train.ema`.
    """
    return PortableState(
        step=step,
        parameters=parameters_of(model),
        buffers=buffers_of(model),
        slots=slots_of(model, optimizer),
        averages={name: _to_numpy(average) for name, average in averages.items()},
    )


def from_portable(
    portable: PortableState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> None:
    """A run copied into a model of the experiment's own, in its number types.

    Slots that the portable state lacks stay as they are.

    Args:
        portable: the run.
        model: the network.
        optimizer: over its parameters, fresh.
        average: the network again, with averaged parameters.

    Raises:
        KeyError: the model has a parameter that the portable state lacks.
    """
    _fill(model, portable.parameters, portable.buffers)
    if average is not None:  # before its first update an average is a copy
        _fill(average, portable.averages or portable.parameters, portable.buffers)
    if optimizer is None or not portable.step:
        return
    # Where torch keeps its count: fused kernels beside the parameter, the others on the CPU.
    fused = {
        parameter
        for group in optimizer.param_groups
        if group.get("fused")
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        slots = {
            slot: torch.from_numpy(arrays[name]).to(parameter, copy=True)
            for slot, arrays in portable.slots.items()
            if name in arrays
        }
        if parameter.requires_grad:
            device = parameter.device if parameter in fused else "cpu"
            step = torch.tensor(float(portable.step), device=device)
            optimizer.state[parameter] = slots | {"step": step}


def parameters_of(model: nn.Module) -> Arrays:
    """A model's parameters by canonical name."""
    return {name: _to_numpy(parameter) for name, parameter in model.named_parameters()}


def buffers_of(model: nn.Module) -> Arrays:
    """A model's batch statistics, and whatever else it saves that is no parameter, by canonical name."""
    names = set(model.state_dict()) - {name for name, _ in model.named_parameters()}
    return {
        name: _to_numpy(buffer)
        for name, buffer in model.named_buffers()
        if name in names and not name.endswith(COUNTER)
    }


def slots_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Arrays]:
    """Optimizer slots by name; step counts are left out, since the run's step says the same."""
    slots: dict[str, Arrays] = {}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if (
                isinstance(value, torch.Tensor)
                and value.shape == parameter.shape
                and slot != "step"
            ):
                slots.setdefault(slot, {})[name] = _to_numpy(value)
    return slots


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of a model's parameters and buffers."""
    return {name: array.shape for name, array in (parameters_of(model) | buffers_of(model)).items()}


def _fill(model: nn.Module, parameters: Arrays, buffers: Arrays) -> None:
    """Copy arrays into a model, in its own number type."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(parameters[name]))
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(torch.from_numpy(buffers[name]))


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy that shares no memory with the tensor."""
    return tensor.detach().cpu().numpy().copy()
