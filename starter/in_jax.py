"""The same network and loss in JAX: layers of the same names, so that each takes the other's weights."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp


class Net(nn.Module):
    """Two hidden layers, then a score for each class."""

    input_shape: tuple[int, ...]
    outputs: int
    width: int = 32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(nn.Dense(self.width, name="hidden1")(x))
        x = jnp.tanh(nn.Dense(self.width, name="hidden2")(x))
        return nn.Dense(self.outputs, name="head")(x)


def loss(outputs: jax.Array, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the focal loss (Lin et al. 2017) of each sample, and if its class is right."""
    label = batch["label"]
    log_p = jnp.take_along_axis(jax.nn.log_softmax(outputs), label[:, None], axis=1)[:, 0]
    accuracy = (outputs.argmax(1) == label).astype(outputs.dtype)
    return {"loss": -((1 - jnp.exp(log_p)) ** 2) * log_p, "accuracy": accuracy}
