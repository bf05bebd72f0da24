"""An optimizer, a schedule and callbacks, as a user brings them."""

import math
import time
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
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


class Slowing(torch.optim.SGD):
    """Counts its updates in its groups; `keeps` makes a mistake."""

    def __init__(self, params, lr, keeps=None):
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group["updates"] = 0
            group["object"] = object() if keeps == "object" else keeps

    def step(self, closure=None):
        for group in self.param_groups:
            if group["object"] == "error":
                group["updates"] / 0
            group["updates"] += 1
            group["lr"] /= group["updates"]
        return super().step(closure)


class Settings:
    """No optimizer."""

    def __init__(self, learning_rate):
        self.learning_rate = learning_rate


class Count(NamedTuple):
    """A number of updates."""

    count: jax.Array


def growing(learning_rate):
    """Gradient descent whose count begins as a whole number, and goes on as another."""

    def update(updates, state, params=None):
        return optax.tree.scale(-learning_rate, updates), Count(state.count + 0.5)

    return optax.GradientTransformation(lambda params: Count(jnp.zeros((), int)), update)


class Samples:
    """Keeps what it gets; shows a weight as a picture, and the norms of all in a table."""

    seen: ClassVar[list] = []

    def __call__(self, step, metrics, weights, tracker):
        arrays = weights()
        self.seen.append((step, metrics, arrays))
        matrix = arrays["layers.0.weight"]
        tracker.log_image(step, "weights/first", (matrix - matrix.min()) / np.ptp(matrix))
        norms = [(name, float(np.linalg.norm(array))) for name, array in arrays.items()]
        tracker.log_table(step, "norms", ["name", "norm"], norms)
        tracker.log(step, {"own/largest": max(norm for _, norm in norms)})


def fails_at_ten(step, metrics, weights, tracker):
    """Has a mistake."""
    if step == 10:
        metrics["no such metric"]


def takes_two(step, metrics):
    """Takes too few arguments."""


class AtBatches(Callback):
    """A callback of Lightning, with a state."""

    def __init__(self):
        self.count = 0

    def on_train_batch_end(self, trainer, *arguments):
        self.count += 1
        trainer.callback_metrics["own/count"] = torch.tensor(float(self.count))

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Failing(AtBatches):
    """One with a mistake."""

    def on_train_batch_end(self, trainer, *arguments):
        super().on_train_batch_end(trainer)
        if trainer.global_step == 7:
            self.count / 0


lightning_one = AtBatches()


def pausing(step, metrics, weights, tracker):
    """A callback that takes half a second at step 20."""
    if step == 20:
        time.sleep(0.5)
