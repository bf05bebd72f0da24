"""Conversion between torch's state and the portable state, whose names and layouts are torch's own."""

from collections.abc import Mapping
from itertools import chain

import numpy as np
import torch
from torch import nn

from lightning_impl.layers import layer_kinds
from lightning_impl.sharding import whole
from pipeline.config.experiment import Config
from pipeline.config.models import Initializer
from pipeline.storage.portable_state import COUNTER, Arrays, PortableState
from pipeline.training.initializers import initial_parameters


def initial_state(model: nn.Module, config: Config) -> PortableState:
    """The state at step 0: drawn by the core with initial running statistics, or as the model made it."""
    if config.model.init is Initializer.own:
        return PortableState(0, parameters_of(model), buffers_of(model))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    parameters = initial_parameters(shapes, layer_kinds(model), config.seed, config.model.init)
    return PortableState(0, parameters, buffers_of(model))


def to_portable(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    averages: Mapping[str, torch.Tensor],
) -> PortableState:
    """Copy the state after `step` updates out of torch; `averages` is empty without `train.ema`.

    The optimizer is None if its slots have no canonical names.
    """
    return PortableState(
        step=step,
        parameters=parameters_of(model),
        buffers=buffers_of(model),
        slots=slots_of(model, optimizer) if optimizer else {},
        averages={name: _to_numpy(average) for name, average in averages.items()},
    )


def from_portable(
    portable: PortableState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> None:
    """Copy a portable state into a model, a fresh optimizer and an average, in their dtypes.

    Slots that the portable state lacks stay as they are; a parameter that it lacks is a KeyError.
    """
    _fill(model, portable.parameters, portable.buffers)
    if average is not None:  # before its first update the average is a copy
        _fill(average, portable.averages or portable.parameters, portable.buffers)
    if optimizer is None or not portable.step:
        return
    # Fused kernels keep their step count on the parameter's device, the others on the CPU.
    groups = [group["params"] for group in optimizer.param_groups if group.get("fused")]
    fused = set(chain(*groups))
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
    """A model's running statistics and other saved buffers, by canonical name."""
    names = set(model.state_dict()) - {name for name, _ in model.named_parameters()}
    return {
        name: _to_numpy(buffer)
        for name, buffer in model.named_buffers()
        if name in names and not name.endswith(COUNTER)
    }


def slots_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Arrays]:
    """Optimizer slots by name, without step counts, which equal the run's step."""
    slots: dict[str, Arrays] = {}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            is_slot = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if is_slot and slot != "step":
                slots.setdefault(slot, {})[name] = _to_numpy(value)
    return slots


def evaluated_weights(model: nn.Module, average: nn.Module | None) -> Arrays:
    """Values that an evaluation uses, by canonical name; collective with fsdp: all processes call it.

    These are the parameters, or with `train.ema` their averages, and the running statistics.
    """
    return parameters_of(model if average is None else average) | buffers_of(model)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Canonical names and shapes of a model's parameters and buffers."""
    return {name: array.shape for name, array in (parameters_of(model) | buffers_of(model)).items()}


def _fill(model: nn.Module, parameters: Arrays, buffers: Arrays) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(parameters[name]))
        known = parameters | buffers  # without their model, the two are told apart by name alone
        for name, buffer in model.named_buffers():
            if name in known:
                buffer.copy_(torch.from_numpy(known[name]))


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Copy a tensor to NumPy, with no shared memory."""
    # Not `numpy().copy()`: FSDP cannot free a tensor that NumPy has seen.
    return whole(tensor.detach()).cpu().clone(memory_format=torch.contiguous_format).numpy()
