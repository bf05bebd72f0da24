"""Pairs whose parameters have no names: alignment must not depend on them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from flax_impl.device import PyTree
from flax_impl.verify.adapters.function import Function


class Anonymous(nn.Module):
    """A torch model with parameters and buffers `p0`, `p1`, …"""

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        super().__init__()
        model.double()
        object.__setattr__(
            self, "model", model
        )  # not a module of this one: that would name its own
        order = np.random.default_rng(seed)
        tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
        for number, at in enumerate(order.permutation(len(tensors)).tolist()):
            if isinstance(tensors[at], nn.Parameter):
                self.register_parameter(f"p{number}", tensors[at])
            else:
                self.register_buffer(f"p{number}", tensors[at])
        self.forward = model.forward

    def train(self, mode: bool = True) -> "Anonymous":
        """Train or evaluate."""
        self.model.train(mode)
        return super().train(mode)


def without_names(function: Function, seed: int = 1) -> Function:
    """Return a JAX model with arrays `q0`, `q1`, …"""
    order = np.random.default_rng(seed)
    old = list(function.arrays)
    names = {f"q{number}": old[at] for number, at in enumerate(order.permutation(len(old)))}
    new = {name: number for number, name in names.items()}

    def apply(arrays: Mapping[str, PyTree], inputs: Any, training: bool) -> tuple[PyTree, PyTree]:
        own = {names[name]: array for name, array in arrays.items()}
        output, buffers = function.apply(own, inputs, training)
        return output, {new[name]: array for name, array in buffers.items()}

    arrays = {name: function.arrays[own] for name, own in names.items()}
    return replace(
        function, arrays=arrays, trained=frozenset(new[n] for n in function.trained), apply=apply
    )
