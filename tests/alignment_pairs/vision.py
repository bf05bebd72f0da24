"""Models of torchvision, against ports in linen with names of their own."""

from functools import partial

import flax.linen as fnn
import jax
import jax.numpy as jnp
from torchvision.models import (
    ConvNeXt,
    MobileNetV3,
    SwinTransformer,
    VisionTransformer,
    convnext,
    mobilenetv3,
    resnet18,
)

from alignment_pairs.pair import Pair

IMAGES, CLASSES = (2, 3, 32, 32), 7


def last(x):
    return x.transpose(0, 2, 3, 1)


def conv(width, size=1, stride=1, groups=1, bias=False):
    pad = (size - 1) // 2
    return fnn.Conv(
        width, (size, size), stride, padding=pad, feature_group_count=groups, use_bias=bias
    )


class Normed(fnn.Module):
    """A convolution, batch norm and an activation."""

    width: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    epsilon: float = 1e-5
    activate: object = staticmethod(lambda x: x)

    @fnn.compact
    def __call__(self, x):
        x = conv(self.width, self.size, self.stride, self.groups)(x)
        return self.activate(fnn.BatchNorm(True, epsilon=self.epsilon)(x))


class Resnet18(fnn.Module):
    """He et al. 2015."""

    @fnn.compact
    def __call__(self, x):
        x = Normed(64, 7, 2, activate=fnn.relu)(last(x))
        x = fnn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for width in (64, 128, 256, 512):
            for block in range(2):
                stride = 2 if width > 64 and block == 0 else 1
                skip = Normed(width, 1, stride)(x) if stride == 2 else x
                y = Normed(width, 3, stride, activate=fnn.relu)(x)
                x = fnn.relu(skip + Normed(width, 3)(y))
        return fnn.Dense(CLASSES)(x.mean((1, 2)))


def hard_sigmoid(x):
    return jnp.clip(x / 6 + 0.5, 0, 1)


def hard_swish(x):
    return x * hard_sigmoid(x)


# Kernel, width inside, width, squeeze-and-excitation, hard swish, stride.
INVERTED = ((3, 8, 8, True, False, 2), (3, 24, 16, False, False, 2), (5, 40, 16, True, True, 1))


def mobilenet():
    layers = [
        mobilenetv3.InvertedResidualConfig(8 if at == 0 else (8, 16)[at - 1], kernel, inside, width, excite,
                                           "HS" if swish else "RE", stride, 1, 1.0)
        for at, (kernel, inside, width, excite, swish, stride) in enumerate(INVERTED)
    ]  # fmt: skip
    return MobileNetV3(layers, 40, CLASSES)


class Mobilenet(fnn.Module):
    """Howard et al. 2019."""

    @fnn.compact
    def __call__(self, x):
        normed = partial(Normed, epsilon=1e-3)
        x = normed(8, 3, 2, activate=hard_swish)(last(x))
        for kernel, inside, width, excite, swish, stride in INVERTED:
            act, before = hard_swish if swish else fnn.relu, x
            y = normed(inside, activate=act)(x) if inside != x.shape[-1] else x
            y = normed(inside, kernel, stride, groups=inside, activate=act)(y)
            if excite:
                z = fnn.relu(fnn.Dense(16 if inside == 40 else 8)(y.mean((1, 2), keepdims=True)))
                y = y * hard_sigmoid(fnn.Dense(inside)(z))
            x = normed(width)(y)
            x = x + before if stride == 1 and x.shape == before.shape else x
        x = normed(6 * width, activate=hard_swish)(x).mean((1, 2))
        return fnn.Dense(CLASSES)(hard_swish(fnn.Dense(40)(x)))


def convnext_small():
    stages = [convnext.CNBlockConfig(8, 12, 2), convnext.CNBlockConfig(12, None, 1)]
    return ConvNeXt(stages, 0.0, 0.5, num_classes=CLASSES)


class Convnext(fnn.Module):
    """Liu et al. 2022."""

    @fnn.compact
    def __call__(self, x):
        norm = partial(fnn.LayerNorm, epsilon=1e-6)
        x = norm()(fnn.Conv(8, (4, 4), (4, 4), padding="VALID")(last(x)))
        for width, depth in ((8, 2), (12, 1)):
            if width != x.shape[-1]:
                x = fnn.Conv(width, (2, 2), (2, 2), padding="VALID")(norm()(x))
            for _ in range(depth):
                scale = self.param(
                    f"gamma_{len(self.variables)}_{width}_{_}", fnn.initializers.ones, (width,)
                )
                y = norm()(conv(width, 7, groups=width, bias=True)(x))
                y = fnn.Dense(width)(fnn.gelu(fnn.Dense(4 * width)(y), approximate=False))
                x = x + scale * y
        return fnn.Dense(CLASSES)(norm()(x.mean((1, 2))))


def vit():
    return VisionTransformer(32, 8, 2, 3, 24, 48, num_classes=CLASSES)


class Vit(fnn.Module):
    """Dosovitskiy et al. 2020, with patches by a dense layer."""

    width: int = 24
    depth: int = 2
    heads: int = 3
    hidden: int = 48
    patch: int = 8

    @fnn.compact
    def __call__(self, x):
        norm, p = partial(fnn.LayerNorm, epsilon=1e-6), self.patch
        x = last(x)
        b, h, w, c = x.shape
        x = (
            x.reshape(b, h // p, p, w // p, p, c)
            .transpose(0, 1, 3, 2, 4, 5)
            .reshape(b, -1, p * p * c)
        )
        x = fnn.Dense(self.width)(x)
        token = self.param("token", fnn.initializers.normal(), (self.width,))
        place = self.param("place", fnn.initializers.normal(), (x.shape[1] + 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(token, (b, 1, self.width)), x], 1) + place
        for _ in range(self.depth):
            y = norm()(x)
            x = x + fnn.MultiHeadDotProductAttention(self.heads)(y, y)
            y = fnn.gelu(fnn.Dense(self.hidden)(norm()(x)), approximate=False)
            x = x + fnn.Dense(self.width)(y)
        return fnn.Dense(CLASSES)(norm()(x)[:, 0])


def swin():
    return SwinTransformer(
        [4, 4], 8, [2, 1], [2, 4], [4, 4], 2.0, stochastic_depth_prob=0.0, num_classes=CLASSES
    )


class Shifted(fnn.Module):
    """Attention in windows, shifted or not, with a table of biases by relative position."""

    heads: int
    shift: int
    window: int = 4

    @fnn.compact
    def __call__(self, x):
        b, h, w, c = x.shape
        n = self.window
        shift = self.shift if h > n else 0
        x = jnp.roll(x, (-shift, -shift), (1, 2))
        x = x.reshape(b, h // n, n, w // n, n, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, n * n, c)
        size = c // self.heads
        q, k, v = (fnn.DenseGeneral((self.heads, size))(x) for _ in range(3))
        table = self.param("table", fnn.initializers.normal(), (self.heads, 2 * n - 1, 2 * n - 1))
        at = jnp.arange(n)[:, None] - jnp.arange(n)[None] + n - 1
        bias = table[:, at[:, None, :, None], at[None, :, None, :]].reshape(
            self.heads, n * n, n * n
        )
        scores = jnp.einsum("blhk,bmhk->bhlm", q, k) / size**0.5 + bias
        if shift:
            part = jnp.zeros((h, w), int)
            for i, rows in enumerate(
                (slice(0, h - n), slice(h - n, h - shift), slice(h - shift, h))
            ):
                for j, columns in enumerate(
                    (slice(0, w - n), slice(w - n, w - shift), slice(w - shift, w))
                ):
                    part = part.at[rows, columns].set(3 * i + j)
            part = part.reshape(h // n, n, w // n, n).transpose(0, 2, 1, 3).reshape(-1, n * n)
            mask = jnp.where(part[:, None] != part[:, :, None], -100.0, 0.0)
            scores = (scores.reshape(b, -1, *scores.shape[1:]) + mask[:, None]).reshape(
                scores.shape
            )
        y = jnp.einsum("bhlm,bmhk->blhk", jax.nn.softmax(scores, -1), v)
        y = fnn.DenseGeneral(c, (-2, -1))(y)
        y = y.reshape(b, h // n, w // n, n, n, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return jnp.roll(y, (shift, shift), (1, 2))


class Swin(fnn.Module):
    """Liu et al. 2021."""

    @fnn.compact
    def __call__(self, x):
        norm = partial(fnn.LayerNorm, epsilon=1e-5)
        x = norm()(fnn.Conv(8, (4, 4), (4, 4), padding="VALID")(last(x)))
        for width, depth, heads in ((8, 2, 2), (16, 1, 4)):
            if width != x.shape[-1]:
                parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
                x = fnn.Dense(width, use_bias=False)(norm()(jnp.concatenate(parts, -1)))
            for at in range(depth):
                x = x + Shifted(heads, 2 * at)(norm()(x))
                y = fnn.gelu(fnn.Dense(2 * width)(norm()(x)), approximate=False)
                x = x + fnn.Dense(width)(y)
        return fnn.Dense(CLASSES)(norm()(x).mean((1, 2)))


PAIRS = {
    "resnet18": Pair(partial(resnet18, num_classes=CLASSES), Resnet18, IMAGES, is_slow=True),
    # torch divides by six in float32.
    "mobilenet_v3": Pair(mobilenet, Mobilenet, IMAGES, bar=1e-6, is_slow=True),
    "convnext": Pair(convnext_small, Convnext, IMAGES, is_slow=True),
    "vit": Pair(vit, Vit, IMAGES, is_slow=True),
    "swin": Pair(swin, Swin, IMAGES, is_slow=True),
}
