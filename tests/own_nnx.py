"""The network of `own_models.TorchNorm`, in Flax NNX."""

import jax
from flax import nnx


class NNXNet(nnx.Module):
    """A convolution with batch norm and dropout, a list of linear layers, and a linear head.

    With `wrong` the activation between the two linear layers is another.
    """

    def __init__(
        self, input_shape, outputs, width=8, rate=0.0, norm=True, wrong=False, *, rngs: nnx.Rngs
    ):
        self.activations = [jax.nn.relu if wrong else jax.nn.tanh, jax.nn.tanh]
        self.conv = nnx.Conv(input_shape[-1], width, (3, 3), rngs=rngs)
        if norm:
            self.norm = nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.hidden = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        x = self.conv(x)
        x = self.norm(x) if hasattr(self, "norm") else x
        x = self.drop(nnx.relu(x)).mean((1, 2))
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            x = activation(layer(x))
        return self.head(x)
