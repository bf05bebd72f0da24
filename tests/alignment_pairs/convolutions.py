"""Convolutions in groups and transposed, flattened images, and layers with weight norm."""

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from alignment_pairs.pair import Pair, function

WIDTH = 8
IMAGES, VECTORS = (2, 4, 6, 10), (3, 6)


def last(x):
    return x.transpose(0, 2, 3, 1)


class Sequential(nn.Sequential):
    """Layers with tanh between them; images are averaged before the last."""

    def forward(self, x):
        *layers, head = self
        for layer in layers:
            x = torch.tanh(layer(x))
        return head(x if x.ndim == 2 else x.mean((2, 3)))


class Grouped(fnn.Module):
    """A convolution in groups, one of each channel, and one in size 1."""

    @fnn.compact
    def __call__(self, x):
        x = jnp.tanh(fnn.Conv(WIDTH, (3, 3), padding=1, feature_group_count=2)(last(x)))
        x = jnp.tanh(fnn.Conv(WIDTH, (5, 5), padding=2, feature_group_count=WIDTH)(x))
        x = jnp.tanh(fnn.Dense(WIDTH)(x))
        return fnn.Dense(3)(x.mean((1, 2)))


def grouped():
    return Sequential(
        nn.Conv2d(4, WIDTH, 3, padding=1, groups=2),
        nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 1),
        nn.Linear(WIDTH, 3),
    )


def transposed():
    return Sequential(
        nn.ConvTranspose2d(4, WIDTH, 2, 2),
        nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, padding=1, output_padding=1),
        nn.Linear(WIDTH, 3),
    )


class Transposed(fnn.Module):
    """Transposed convolutions, with kernels like those of a convolution or of its gradient."""

    is_turned: bool = False

    @fnn.compact
    def __call__(self, x):
        turned = {"transpose_kernel": self.is_turned}
        x = fnn.ConvTranspose(WIDTH, (2, 2), (2, 2), padding="VALID", **turned)(last(x))
        x = jnp.tanh(x)
        x = fnn.ConvTranspose(WIDTH, (3, 3), (2, 2), padding=((1, 2), (1, 2)), **turned)(x)
        return fnn.Dense(3)(jnp.tanh(x).mean((1, 2)))


class TransposedNnx(nnx.Module):
    """The same in NNX."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.c = nnx.Linear(WIDTH, 3, rngs=rngs)
        self.b = nnx.ConvTranspose(
            WIDTH, WIDTH, (3, 3), (2, 2), padding=((1, 2), (1, 2)), rngs=rngs
        )
        self.a = nnx.ConvTranspose(4, WIDTH, (2, 2), (2, 2), padding="VALID", rngs=rngs)

    def __call__(self, x):
        x = jnp.tanh(self.b(jnp.tanh(self.a(last(x)))))
        return self.c(x.mean((1, 2)))


class Flattened(nn.Module):
    """An image that is flattened with channels first."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, WIDTH, 3), nn.Linear(WIDTH * 4 * 8, WIDTH)
        self.n, self.c = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.n(self.b(torch.relu(self.a(x)).flatten(1)))
        return self.c(torch.relu(x))


def flattened_last(p, x):
    """The same with channels last, and statistics by names that say nothing."""
    x = jax.lax.conv_general_dilated(
        last(x), p["a"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + p["b"]).reshape(len(x), -1) @ p["c"] + p["d"]
    x = (x - p["e"]) / jnp.sqrt(p["f"] ** 2 + 1e-5) * p["g"] + p["h"]
    return jax.nn.relu(x) @ p["i"] + p["j"]


def flattened_norm(p, x):
    return flattened_last({**p, "f": jnp.sqrt(jnp.abs(p["f"]))}, x)


NORMED = {"e": (WIDTH,), "f": (WIDTH,), "g": (WIDTH,), "h": (WIDTH,), "i": (WIDTH, 3), "j": (3,)}


def weight_normed():
    return Sequential(
        weight_norm(nn.Linear(6, WIDTH)), weight_norm(nn.Linear(WIDTH, WIDTH)), nn.Linear(WIDTH, 3)
    )


class WeightNormed(fnn.Module):
    """Linen's weight norm."""

    @fnn.compact
    def __call__(self, x):
        x = jnp.tanh(fnn.WeightNorm(fnn.Dense(WIDTH), epsilon=0.0)(x))
        x = jnp.tanh(fnn.WeightNorm(fnn.Dense(WIDTH), epsilon=0.0)(x))
        return fnn.Dense(3)(x)


def normed_by_hand(p, x):
    for v, g, b in (("v", "g", "b"), ("w", "h", "c")):
        norm = jnp.sqrt(jnp.sum(p[v] ** 2, 0, keepdims=True))
        x = jnp.tanh(x @ (p[v] * (p[g] / norm)) + p[b])
    return x @ p["d"] + p["e"]


def normed_result(p, x):
    """The factor is multiplied with the result."""
    for v, g, b in (("v", "g", "b"), ("w", "h", "c")):
        direction = p[v] / jnp.linalg.norm(p[v], axis=1, keepdims=True)
        x = jnp.tanh(jnp.einsum("bi,oi->bo", x, direction) * p[g] + p[b])
    return x @ p["d"] + p["e"]


FACTORS = {"g": (WIDTH,), "b": (WIDTH,), "h": (WIDTH,), "c": (WIDTH,), "d": (WIDTH, 3), "e": (3,)}
PAIRS = {
    "convolutions in groups, and of size 1 for dense": Pair(grouped, Grouped, IMAGES),
    "transposed convolutions with flipped kernels": Pair(transposed, Transposed, IMAGES),
    "transposed convolutions with turned kernels": Pair(
        transposed, lambda: Transposed(True), IMAGES
    ),
    "transposed convolutions of NNX": Pair(transposed, TransposedNnx, IMAGES),
    "channels first and last before a dense layer, and a batch norm written out": Pair(
        Flattened,
        function(
            flattened_norm, a=(3, 3, 4, WIDTH), b=(WIDTH,), c=(256, WIDTH), d=(WIDTH,), **NORMED
        ),
        IMAGES,
    ),
    "weight norm of torch and linen": Pair(weight_normed, WeightNormed, VECTORS),
    "weight norm by hand": Pair(
        weight_normed, function(normed_by_hand, v=(6, WIDTH), w=(WIDTH, WIDTH), **FACTORS), VECTORS
    ),
    "weight norm of the result": Pair(
        weight_normed, function(normed_result, v=(WIDTH, 6), w=(WIDTH, WIDTH), **FACTORS), VECTORS
    ),
}
