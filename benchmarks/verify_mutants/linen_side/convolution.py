"""Convolutions, pools and the norms of images of the base models in linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.verify_mutants.linen_side.layers import is_library, offset, standardise, stop
from benchmarks.verify_mutants.settings import Settings

IMAGES = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Module):
    """A convolution that keeps the size, but for its stride."""

    features: int
    kernel: int
    stride: int
    s: Settings
    use_bias: bool = True
    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, inputs]` to `[batch, …, features]`."""
        s, inputs = self.s, x.shape[-1]
        groups = 4 if "split" in s.extra and self.groups == 1 and inputs % 4 == 0 else self.groups
        shape = (self.kernel, self.kernel, inputs // groups, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(x.dtype)
        half = s.dilation * (self.kernel // 2)
        before = half - s.stride_offset if self.stride > 1 else half  # the grid begins elsewhere
        padding: object = [(before, half)] * 2
        if s.padding == "same" and s.dilation == 1:
            padding = "SAME"
        if s.padding_mode != "zeros":
            mode = {"circular": "wrap"}.get(s.padding_mode, s.padding_mode)
            x, padding = jnp.pad(x, [(0, 0), *padding, (0, 0)], mode), "VALID"
        if "flip" in s.extra:
            kernel = jnp.flip(kernel, (0, 1))
        y = lax.conv_general_dilated(
            x, kernel, (self.stride,) * 2, padding, rhs_dilation=(s.dilation,) * 2,
            dimension_numbers=IMAGES, feature_group_count=groups,
        )  # fmt: skip
        if not self.use_bias or "conv bias" in s.missing:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,))


class BatchNorm(nn.Module):
    """Batch norm of images (Ioffe & Szegedy 2015), with torch's running variance."""

    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to the same."""
        s, shape = self.s, x.shape[-1:]
        trains = {"training": train, "never": False, "always": True}[s.statistics]
        if is_library(s) and s.running_variance == "biased":
            return nn.BatchNorm(
                use_running_average=not trains, momentum=1 - s.momentum, epsilon=s.epsilon,
                use_fast_variance=False, name="inner",
            )(x)  # fmt: skip
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, variance = running_mean.value, running_var.value
        if trains:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size / x.shape[-1]
            unbiased = variance * (count / (count - 1))
            kept = variance if s.running_variance == "biased" else unbiased
            if train:
                running_mean.value += s.momentum * (mean - running_mean.value)
                running_var.value += s.momentum * (kept - running_var.value)
            variance = unbiased if s.variance == "unbiased" else variance
        mean, variance = stop(mean, "statistics", s), stop(variance, "statistics", s)
        if s.epsilon_place == "outside":
            root = jnp.sqrt(variance) + s.epsilon
        else:
            root = jnp.sqrt(variance + s.epsilon)
        return (x - mean) * (offset(scale, s) / root) + bias


class ManualGroupNorm(nn.Module):
    """Group norm of images, written out."""

    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, channels]` to the same."""
        s, shape = self.s, x.shape
        scale = self.param("scale", nn.initializers.ones, shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        if s.group_order == "strided":
            y = standardise(x.reshape(*shape[:-1], -1, s.groups), (1, 2, 3), s)
        else:
            y = standardise(x.reshape(*shape[:-1], s.groups, -1), (1, 2, 4), s)
        return y.reshape(shape) * offset(scale, s) + bias


def group_norm(s: Settings, name: str) -> nn.Module:
    """Return group norm (Wu & He 2018)."""
    if s.group_order == "contiguous" and is_library(s):
        return nn.GroupNorm(s.groups, epsilon=s.epsilon, use_fast_variance=False, name=name)
    return ManualGroupNorm(s, name=name)


def max_pool(x: jax.Array, kernel: int, stride: int, padding: int, s: Settings) -> jax.Array:
    """Max pool; images are `[batch, height, width, channels]`."""
    sides: object = _sides(x, kernel, stride, padding, s)
    if s.pool_padding == "zero" and padding:
        x = jnp.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
        sides = _sides(x, kernel, stride, 0, s)
    elif s.padding == "same" and padding:
        sides = "SAME"
    return nn.max_pool(x, (kernel,) * 2, (stride,) * 2, sides)


def average_pool(x: jax.Array, kernel: int, stride: int, padding: int, s: Settings) -> jax.Array:
    """Average pool; images are `[batch, height, width, channels]`."""
    sides = _sides(x, kernel, stride, padding, s)
    size, strides = (kernel,) * 2, (stride,) * 2
    if not s.ceil:
        return nn.avg_pool(x, size, strides, sides, count_include_pad=s.count_padding)
    # Torch counts the padding that it was given, but not what rounding up adds.
    ones = jnp.ones((1, *x.shape[1:3], 1))
    if s.count_padding:
        pad = (padding, padding)
        x, ones = (
            jnp.pad(x, [(0, 0), pad, pad, (0, 0)]),
            jnp.pad(ones, [(0, 0), pad, pad, (0, 0)], constant_values=1),
        )
        sides = [(0, high - padding) for _, high in sides]
    window, steps = (1, *size, 1), (1, *strides, 1)
    total = [
        lax.reduce_window(a, 0.0, lax.add, window, steps, [(0, 0), *sides, (0, 0)])
        for a in (x, ones)
    ]
    return total[0] / total[1]


def _sides(
    x: jax.Array, kernel: int, stride: int, padding: int, s: Settings
) -> list[tuple[int, int]]:
    """Padding of height and width; rounding up adds to it."""
    sides = []
    for size in x.shape[1:3]:
        rest = (size + 2 * padding - kernel) % stride
        more = stride - rest if s.ceil and rest else 0
        sides.append((padding, padding + more))
    return sides


class Up(nn.Module):
    """An image of twice the size: by a transposed convolution, or resized and convolved."""

    features: int
    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, inputs]` to `[batch, 2 height, 2 width, features]`."""
        s, (batch, height, width, channels) = self.s, x.shape
        if s.resize == "transposed":
            y = nn.ConvTranspose(self.features, (3, 3), (2, 2), padding="VALID", name="conv")(x)
            at = 1 - s.crop
            return y[:, at : at + 2 * height, at : at + 2 * width]
        shape = (batch, 2 * height, 2 * width, channels)
        if s.resize in ("aligned", "corner"):
            for axis, size in ((1, height), (2, width)):
                places = jnp.arange(2 * size, dtype=x.dtype)
                is_aligned = s.resize == "aligned"
                x = between(
                    x, places * ((size - 1) / (2 * size - 1)) if is_aligned else places / 2, axis
                )
        else:
            method = {"bilinear": "bilinear", "nearest": "nearest", "cubic": "cubic"}[s.resize]
            x = jax.image.resize(x, shape, method)
        return Conv(self.features, 3, 1, s, name="conv")(x)


def between(x: jax.Array, places: jax.Array, axis: int) -> jax.Array:
    """Interpolate linearly at these places of an axis."""
    places = jnp.clip(places, 0, x.shape[axis] - 1)
    low = jnp.floor(places).astype(int)
    high = jnp.minimum(low + 1, x.shape[axis] - 1)
    share = (places - low).reshape([-1 if at == axis else 1 for at in range(x.ndim)])
    low_rows, high_rows = jnp.take(x, low, axis), jnp.take(x, high, axis)
    return low_rows * (1 - share) + high_rows * share


def flattened(x: jax.Array, s: Settings) -> jax.Array:
    """Flatten an image `[batch, height, width, channels]`, in the order of the axes that is asked."""
    x = x if s.layout == "channels last" else x.transpose(0, 3, 1, 2)
    return x.reshape(len(x), int(np.prod(x.shape[1:])))
