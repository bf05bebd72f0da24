"""Layers of the base models in linen, each as its settings say."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.verify_mutants.settings import HIDDEN, WIDTH, Settings

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": nn.gelu,
    "gelu_sigmoid": lambda x: x * nn.sigmoid(1.702 * x),
    "relu": nn.relu,
    "relu_squared": lambda x: nn.relu(x) ** 2,
    "silu": nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "hard_sigmoid": nn.hard_sigmoid,
    "elu": nn.elu,
    "softplus": nn.softplus,
    "none": lambda x: x,
}


def activate(x: jax.Array, s: Settings) -> jax.Array:
    """Apply the model's activation."""
    if s.activation == "leaky_relu":
        return nn.leaky_relu(x, s.slope)
    if s.formula == "manual" and s.activation == "gelu":
        return 0.5 * x * (1 + lax.erf(x / np.sqrt(2)))
    if s.formula == "manual" and s.activation == "silu":
        return x / (1 + jnp.exp(-x))
    return ACTIVATIONS[s.activation](x)


def stop(x: jax.Array, place: str, s: Settings) -> jax.Array:
    """Stop the gradient here if the settings say so."""
    return lax.stop_gradient(x) if place in s.stopped else x


def drop(module: nn.Module, x: jax.Array, place: str, s: Settings, train: bool) -> jax.Array:
    """Dropout, at the places where the settings have it."""
    train = train or s.dropout_always
    if place not in s.dropouts or not train:
        return x
    if s.dropout_shared:  # one number for a channel or a token
        axes = (1,) if x.ndim == 3 else (1, 2)
        axes = (2,) if x.ndim == 3 else axes
        return nn.Dropout(s.dropout, broadcast_dims=axes, deterministic=False)(x)
    if not s.dropout_scale:
        kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - s.dropout, x.shape)
        return jnp.where(kept, x, 0.0)
    return nn.Dropout(s.dropout, deterministic=False)(x)


def drop_path(module: nn.Module, x: jax.Array, s: Settings, train: bool) -> jax.Array:
    """Leave out a branch, sample by sample."""
    if not train or not s.drop_path:
        return x
    keep, shape = 1 - s.drop_path, (len(x), *[1] * (x.ndim - 1))
    return x * jax.random.bernoulli(module.make_rng("dropout"), keep, shape) / keep


class StyledDense(nn.Module):
    """A dense layer over the last axis, written in another way than the library's."""

    features: int
    s: Settings
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[…, inputs]` to `[…, features]`."""
        shape = (x.shape[-1], self.features)
        unit = (1, 1) if self.s.dense_style == "conv" else ()
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (*unit, *shape))
        if self.s.dense_style == "conv":
            flat = x.reshape(-1, 1, 1, x.shape[-1])
            y = lax.conv_general_dilated(
                flat,
                kernel.astype(x.dtype),
                (1, 1),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            y = y.reshape(*x.shape[:-1], self.features)
        elif self.s.dense_style == "einsum":
            y = jnp.einsum("...i,io->...o", x, kernel)
        elif self.s.dense_style == "weight norm":
            length = self.param("length", nn.initializers.ones, (1, self.features))
            y = x @ (length * kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True))
        else:
            y = x @ kernel
        if not self.use_bias:
            return y
        unit = (1, 1) if self.s.shapes == "unit" else ()
        return y + self.param("bias", nn.initializers.zeros, (*unit, self.features)).reshape(-1)


def dense(features: int, s: Settings, use_bias: bool = True, name: str | None = None) -> nn.Module:
    """Return a dense layer."""
    if s.dense_style == "library" and s.shapes == "flat":
        return nn.Dense(features, use_bias=use_bias, name=name)
    return StyledDense(features, s, use_bias, name=name)


class ManualNorm(nn.Module):
    """A norm over the last axis, written out."""

    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[…, width]` to the same."""
        s = self.s
        shape = (1, 1, x.shape[-1]) if s.shapes == "unit" else x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape).reshape(-1)
        if s.float32:
            x = x.astype(jnp.float32)
        axes = tuple(range(1, x.ndim)) if s.norm_axes == "all" else (-1,)
        y = standardise(x, axes, s).astype(scale.dtype) * offset(scale, s)
        if s.norm != "layer" or "norm bias" in s.missing:
            return y
        return y + self.param("bias", nn.initializers.zeros, shape).reshape(-1)


def norm(s: Settings, name: str | None = None) -> nn.Module:
    """Return a norm over the last axis: layer norm, or of root mean squares alone."""
    if not is_library(s) or s.shapes == "unit" or s.float32:
        return ManualNorm(s, name=name)
    if s.norm == "rms":
        return nn.RMSNorm(epsilon=s.epsilon, name=name)
    has_bias = "norm bias" not in s.missing
    return nn.LayerNorm(
        epsilon=s.epsilon, use_bias=has_bias, use_fast_variance=s.norm_style == "fast", name=name
    )


def is_library(s: Settings) -> bool:
    """True if a layer of the library does what the settings say."""
    return (
        s.epsilon_place == "inside" and s.variance == "biased" and s.norm_axes == "features"
        and s.norm_style != "manual" and not s.norm_offset and "statistics" not in s.stopped
    )  # fmt: skip


def offset(scale: jax.Array, s: Settings) -> jax.Array:
    """Return the factor of a norm."""
    return scale + s.norm_offset if s.norm_offset else scale


def standardise(x: jax.Array, axes: tuple[int, ...], s: Settings) -> jax.Array:
    """Subtract the mean, unless the norm is of root mean squares, and divide by the deviation."""
    mean = jnp.zeros(()) if s.norm == "rms" else x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    if s.variance == "unbiased":
        count = int(np.prod([x.shape[axis] for axis in axes]))
        variance = variance * (count / (count - 1))
    mean, variance = stop(mean, "statistics", s), stop(variance, "statistics", s)
    if s.epsilon_place == "outside":
        return (x - mean) / (jnp.sqrt(variance) + s.epsilon)
    return (x - mean) * lax.rsqrt(variance + s.epsilon)


class Mlp(nn.Module):
    """Two dense layers with an activation between them."""

    s: Settings
    width: int = WIDTH
    hidden: int = HIDDEN

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[…, width]` to the same."""
        s = self.s
        up = dense(self.hidden, s, "fc1 bias" not in s.missing, "Dense_0")
        down = dense(self.width, s, "fc2 bias" not in s.missing, "Dense_1")
        if s.order == "activation first":
            return down(up(activate(x, s)))
        return down(drop(self, activate(up(x), s), "hidden", s, train))


class GatedMlp(nn.Module):
    """A multilayer perceptron whose hidden layer is gated (Shazeer 2020)."""

    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[…, width]` to the same."""
        s = self.s
        if s.gate_up == "fused":
            gate, up = jnp.split(dense(2 * HIDDEN, s, False, "gate_up")(x), 2, -1)
        else:
            gate, up = dense(HIDDEN, s, False, "gate")(x), dense(HIDDEN, s, False, "up")(x)
        if s.gates == "exchanged":
            gate, up = up, gate
        return dense(WIDTH, s, False, "down")(activate(gate, s) * stop(up, "up", s))


class Table(nn.Module):
    """A table of embeddings."""

    rows: int
    width: int
    s: Settings

    def setup(self) -> None:
        """Make the table."""
        unit = (1,) if self.s.shapes == "unit" else ()
        shape = (*unit, self.rows, self.width)
        self.embedding = self.param("embedding", nn.initializers.normal(1.0), shape)

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Rows `[…, width]` of numbers `[…]`; one of them may get no gradient."""
        table = self.matrix()
        if self.s.frozen_row >= 0:
            frozen = jnp.arange(self.rows) == self.s.frozen_row
            table = jnp.where(frozen[:, None], lax.stop_gradient(table), table)
        if self.s.lookup == "one_hot":
            return jax.nn.one_hot(ids, self.rows, dtype=table.dtype) @ table
        return jnp.take(table, ids, axis=0)

    def matrix(self) -> jax.Array:
        """Return the table `[rows, width]`."""
        return self.embedding.reshape(self.rows, self.width)


def cross_entropy(logits: jax.Array, labels: jax.Array, s: Settings) -> jax.Array:
    """Loss of the labels, of tokens or of samples."""
    classes = logits.shape[-1]
    targets = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    if s.loss == "smoothed":
        targets = optax.smooth_labels(targets, 0.1)
    if s.formula == "manual":
        losses = -(targets * nn.log_softmax(logits)).sum(-1)
    else:
        losses = optax.softmax_cross_entropy(logits, targets)
    if s.loss == "per sequence":  # the sum of each sequence
        return losses.sum() / len(logits)
    return losses.sum() if s.loss == "sum" else losses.mean()
