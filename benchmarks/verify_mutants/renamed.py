"""Models whose parameters have meaningless names, in another order, without nesting."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import Function


def new_names(names: Iterable[str]) -> dict[str, str]:
    """Return a meaningless name for each, in a random order."""
    names = list(names)
    order = np.random.default_rng(0).permutation(len(names))
    return {names[old]: f"p{new}" for new, old in enumerate(order)}


class Renamed(nn.Module):
    """A torch module whose parameters and buffers are its own, without their modules."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        parameters, buffers = dict(inner.named_parameters()), dict(inner.named_buffers())
        self.names = new_names([*parameters, *buffers])
        for old, new in self.names.items():
            if old in parameters:
                self.register_parameter(new, parameters[old])
            else:
                self.register_buffer(new, buffers[old])
        self.inner = [inner]  # a list hides the module

    def forward(self, *inputs: torch.Tensor) -> object:
        """Call the module with these arrays."""
        inner = self.inner[0].train(self.training)
        arrays = {old: getattr(self, new) for old, new in self.names.items()}
        return functional_call(inner, arrays, inputs)


def renamed(function: Function) -> Function:
    """Return a model of JAX with other names."""
    names = new_names(function.arrays)
    old_names = {new: old for old, new in names.items()}

    def apply(arrays: Mapping[str, PyTree], inputs: PyTree, training: bool) -> tuple:
        old = {old_names[new]: array for new, array in arrays.items()}
        output, buffers = function.apply(old, inputs, training)
        return output, {names[name]: array for name, array in buffers.items()}

    return replace(
        function,
        arrays={names[name]: array for name, array in function.arrays.items()},
        trained=frozenset(names[name] for name in function.trained),
        apply=apply,
    )
