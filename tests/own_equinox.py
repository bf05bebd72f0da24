"""The network of `own_models.TorchNorm`, in Equinox."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp


class EquinoxNet(eqx.Module):
    """A convolution with batch norm and dropout, a list of linear layers, and a linear head.

    With `wrong` the activation between the two linear layers is another.
    """

    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm | eqx.nn.Identity
    drop: eqx.nn.Dropout
    hidden: list[eqx.nn.Linear]
    head: eqx.nn.Linear
    activations: list[Callable]

    def __init__(
        self,
        input_shape,
        outputs,
        width=8,
        rate=0.0,
        norm=True,
        mode="batch",
        wrong=False,
        *,
        key,
    ):
        self.activations = [jax.nn.relu if wrong else jnp.tanh, jnp.tanh]
        keys = jax.random.split(key, 4)
        self.conv = eqx.nn.Conv2d(input_shape[-1], width, 3, padding=1, key=keys[0])
        batch_norm = dict(momentum=0.9, mode=mode)
        self.norm = eqx.nn.BatchNorm(width, "batch", **batch_norm) if norm else eqx.nn.Identity()
        self.drop = eqx.nn.Dropout(rate)
        self.hidden = [eqx.nn.Linear(width, width, key=key) for key in keys[1:3]]
        self.head = eqx.nn.Linear(width, outputs, key=keys[3])

    def __call__(self, x, state=None, *, key):
        x = self.conv(x)
        if state is not None:
            x, state = self.norm(x, state)
        x = self.drop(jax.nn.relu(x), key=key).mean((1, 2))
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            x = activation(layer(x))
        return self.head(x) if state is None else (self.head(x), state)
