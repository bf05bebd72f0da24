"""An optimizer, a schedule and callbacks, as a user brings them."""

import math

import numpy as np
import optax
import torch
from lightning.pytorch import Callback


class Momentum(torch.optim.Optimizer):
    """Momentum SGD with decoupled weight decay, whose step calls no closure."""

    def __init__(self, params, lr, weight_decay=0.0, momentum=0.9):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                average = state.get("average", torch.zeros_like(parameter))
                state["average"] = group["momentum"] * average + parameter.grad
                parameter -= group["lr"] * group["weight_decay"] * parameter
                parameter -= group["lr"] * state["average"]


def momentum(learning_rate, weight_decay=0.0, momentum=0.9, mask=None):
    """The same in optax."""
    return optax.chain(
        optax.trace(momentum),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale(-learning_rate),
    )


def sawtooth(step, total, teeth=3):
    """Falls from 1 to 0.1, several times."""
    length = math.ceil(total / teeth)
    return 1 - 0.9 * (step % length) / length


class Distance(torch.optim.SGD):
    """Keeps state beside the settings of its groups, and objects if `keeps` is set."""

    def __init__(self, params, lr, keeps=None):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group["updates"] = 0
            group["object"] = object() if keeps == "object" else None

    def step(self, closure=None):
        for group in self.param_groups:
            group["updates"] += 1
            group["lr"] /= group["updates"]
        return super().step(closure)
