"""Models of images in linen: cnn, resnet, unet, convnext, mixer."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.verify_mutants.linen_side.convolution import (
    BatchNorm,
    Conv,
    Up,
    average_pool,
    flattened,
    group_norm,
    max_pool,
)
from benchmarks.verify_mutants.linen_side.layers import (
    Mlp,
    activate,
    cross_entropy,
    dense,
    drop,
    drop_path,
    norm,
    stop,
)
from benchmarks.verify_mutants.settings import CLASSES, WIDTH, Plan, Settings


def pooled(x: jax.Array, s: Settings) -> jax.Array:
    """One vector of an image `[batch, height, width, channels]`."""
    results = {"mean": lambda: x.mean((1, 2)), "sum": lambda: x.sum((1, 2)),
               "max": lambda: x.max((1, 2)), "flatten": lambda: flattened(x, s)}  # fmt: skip
    return results[s.pool]()


class Cnn(nn.Module):
    """Two convolutions with batch norm and pools, and a classifier."""

    plan: Plan

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[batch, height, width, 3]` to logits."""
        s = self.plan.whole
        x = self._stage(x, 8, 1, 0, train)
        x = max_pool(x, 2, 2, 0, s) if s.image_pool == "max" else average_pool(x, 2, 2, 0, s)
        x = self._stage(x, 12, 2, 1, train)
        x = average_pool(x, 3, 1, 1, s)
        x = drop(self, pooled(x, s), "head", self.plan.block(1), train)
        return nn.Dense(CLASSES, name="classifier")(x)

    def _stage(self, x: jax.Array, features: int, stride: int, at: int, train: bool) -> jax.Array:
        s = self.plan.block(at)
        x = Conv(features, 3, stride, s, name=f"conv_{at}")(x)
        normed = BatchNorm(s, name=f"norm_{at}")
        if s.order == "activation first":
            return normed(activate(x, s), train)
        return drop(self, activate(normed(x, train), s), "stage", s, train)


class BasicBlock(nn.Module):
    """Two convolutions with a residual connection (He et al. 2016)."""

    features: int
    stride: int
    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, inputs]` to `[batch, …, features]`."""
        s, features = self.s, self.features
        first, second = (1, self.stride) if s.order == "stride last" else (self.stride, 1)
        y = Conv(features, 3, first, s, False, name="conv_a")(x)
        y = activate(BatchNorm(s, name="norm_a")(y, train), s)
        y = Conv(features, 3, second, s, False, name="conv_b")(y)
        y = stop(BatchNorm(s, name="norm_b")(y, train), "branch", s)
        if self.stride > 1 or x.shape[-1] != features:
            strides = (self.stride,) * 2
            x = nn.Conv(features, (1, 1), strides, padding="VALID", use_bias=False, name="project")(
                x
            )
            x = BatchNorm(s, name="norm_project")(x, train)
        if "residual" in s.missing:
            return activate(y, s)
        x = s.residual_factor * stop(x, "residual", s)
        return activate(y, s) + x if s.order == "sum last" else activate(y + x, s)


class Resnet(nn.Module):
    """A residual network of two blocks."""

    plan: Plan

    @nn.compact
    def __call__(
        self, x: jax.Array, labels: jax.Array, train: bool = False
    ) -> dict[str, jax.Array]:
        """Images `[batch, height, width, 3]` and labels to logits and loss."""
        s = self.plan.whole
        x = BatchNorm(s, name="norm_stem")(Conv(8, 3, 1, s, False, name="conv_stem")(x), train)
        x = max_pool(activate(x, s), 3, 2, 1, s)
        x = BasicBlock(8, 1, self.plan.block(0), name="block_0")(x, train)
        x = BasicBlock(12, 2, self.plan.block(1), name="block_1")(x, train)
        logits = nn.Dense(CLASSES, name="classifier")(stop(pooled(x, s), "pooled", s))
        return {"logits": logits, "loss": cross_entropy(logits, labels, s)}


class ConvNorm(nn.Module):
    """A convolution, group norm and an activation."""

    features: int
    stride: int
    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, inputs]` to `[batch, …, features]`."""
        x = Conv(self.features, 3, self.stride, self.s, name="conv")(x)
        x = activate(group_norm(self.s, "norm")(x), self.s)
        return drop(self, x, "stage", self.s, train)


class Unet(nn.Module):
    """An image to an image, with a skip connection (Ronneberger et al. 2015)."""

    plan: Plan

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[batch, height, width, 3]` to the same."""
        s, plan = self.plan.whole, self.plan
        skip = ConvNorm(8, 1, plan.block(0), name="encode_a")(x, train)
        y = ConvNorm(12, 2, plan.block(1), name="encode_b")(skip, train)
        y = Up(8, s, name="expand")(y)
        skip = stop(skip, "skip", s)
        pair = [skip, y] if s.order == "skip first" else [y, skip]
        y = ConvNorm(8, 1, s, name="decode")(jnp.concatenate(pair, -1), train)
        return nn.Conv(3, (1, 1), name="to_image")(y)


class ConvNextBlock(nn.Module):
    """A depthwise convolution and a multilayer perceptron (Liu et al. 2022)."""

    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to the same."""
        s = self.s
        y = Conv(WIDTH, 3, 1, s, groups=WIDTH, name="depthwise")(x)
        y = y if "norm" in s.missing else norm(s, "ln")(y)
        y = Mlp(s, name="ffn")(y, train)
        if "layer scale" not in s.missing:
            shape = (1, 1, 1, WIDTH) if s.shapes == "unit" else (WIDTH,)
            y = y * self.param("layer_scale", nn.initializers.ones, shape)
        y = stop(drop_path(self, y, s, train), "branch", s)
        return y if "residual" in s.missing else s.residual_factor * x + y


class ConvNext(nn.Module):
    """A stem, two blocks and a classifier."""

    plan: Plan

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[batch, height, width, 3]` to logits."""
        s = self.plan.whole
        x = nn.Conv(WIDTH, (2, 2), (2, 2), padding="VALID", name="patches")(x)
        for index in range(2):
            x = ConvNextBlock(self.plan.block(index), name=f"block_{index}")(x, train)
        y = pooled(x, s)
        y = y if "final norm" in s.missing else norm(s, "ln_out")(y)
        return nn.Dense(CLASSES, name="classifier")(y)


class MixerBlock(nn.Module):
    """Dense layers over the patches, then over the channels (Tolstikhin et al. 2021)."""

    s: Settings

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, patches, width]` to the same."""
        s = self.s
        y = self._normed(x, "ln_tokens").swapaxes(1, 2)
        x = self._sum(x, Mlp(s, 4, 12, name="over_tokens")(y, train).swapaxes(1, 2), train)
        y = Mlp(s, name="over_channels")(self._normed(x, "ln_channels"), train)
        return self._sum(x, y, train)

    def _normed(self, x: jax.Array, name: str) -> jax.Array:
        return norm(self.s, name)(x) if self.s.norm_place == "pre" else x

    def _sum(self, x: jax.Array, y: jax.Array, train: bool) -> jax.Array:
        s = self.s
        y = stop(drop(self, y, "branch", s, train), "branch", s)
        return y if "residual" in s.missing else s.residual_factor * x + y


class Mixer(nn.Module):
    """Patches, two blocks and a classifier."""

    plan: Plan

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[batch, 8, 8, 3]` to logits."""
        s, b = self.plan.whole, len(x)
        x = x.reshape(b, 2, 4, 2, 4, 3).swapaxes(2, 3)
        if s.layout == "channels first":  # channel, row, column, as torch unfolds
            x = x.transpose(0, 1, 2, 5, 3, 4)
        x = dense(WIDTH, s, name="patches")(x.reshape(b, 4, 48))
        for index in range(2):
            x = MixerBlock(self.plan.block(index), name=f"block_{index}")(x, train)
        x = x if "final norm" in s.missing else norm(s, "ln_out")(x)
        x = x.sum(1) if s.pool == "sum" else x.mean(1)
        return nn.Dense(CLASSES, name="classifier")(x)
