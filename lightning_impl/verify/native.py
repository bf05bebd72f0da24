"""Arrays of a pass as torch has them."""

from collections.abc import Mapping

import numpy as np
import torch

from lightning_impl.verify.trace.replay import to_numpy
from pipeline.storage.portable_state import Arrays
from pipeline.verify.replay.program import Source
from pipeline.verify.sides.subject import Inputs


def to_native(inputs: Inputs) -> dict[str, torch.Tensor]:
    """Inputs as tensors: floats in float64, integers in int64."""
    found = {}
    for name, array in inputs.items():
        tensor = torch.from_numpy(np.array(array, order="C"))
        if tensor.is_floating_point():
            tensor = tensor.double()
        elif tensor.dtype is not torch.bool:
            tensor = tensor.long()
        found[name] = tensor
    return found


def sources(
    arrays: Mapping[str, torch.Tensor], given: Mapping[str, object]
) -> dict[Source, torch.Tensor]:
    """Return copies of what a recorded pass starts from."""
    found: dict[Source, torch.Tensor] = {
        ("parameter", name): tensor.detach().clone() for name, tensor in arrays.items()
    }
    tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
    return found | {("input", name): tensor for name, tensor in tensors.items()}


def weighted(
    outputs: Mapping[str, torch.Tensor], weights: Mapping[str, np.ndarray]
) -> torch.Tensor:
    """Return the sum of the outputs, each times its weights."""
    parts = [
        (outputs[path] * torch.from_numpy(np.array(weight, order="C"))).sum()
        for path, weight in weights.items()
    ]
    return torch.stack(parts).sum()


def numpy_of(found: Mapping[str, torch.Tensor]) -> Arrays:
    """Return tensors as arrays."""
    return {path: to_numpy(tensor) for path, tensor in found.items()}
