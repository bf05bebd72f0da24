"""Tiny models of both frameworks whose details are options, so that either side can be given a mistake."""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from flax_impl.verify.adapters.function import Function
from flax_impl.verify.subject import FunctionSubject
from lightning_impl.verify.subject import ModuleSubject

WIDTH, HEADS, LENGTH, VOCABULARY = 8, 2, 6, 11
CHANNELS = 4


@dataclass(frozen=True)
class Text:
    """A transformer's details."""

    layers: int = 1
    activation: str = "gelu"
    slope: float = 0.01
    epsilon: float = 1e-5
    norm: str = "layer"  # rms, unbiased, outside, rows
    plus_one: float = 0.0  # added to the factor of a norm
    scale: float = 1 / math.sqrt(WIDTH // HEADS)
    softmax_axis: int = -1
    causal: int | None = 0  # diagonal of the mask
    mask_value: float = -1e9
    pads: bool = True  # hides padding
    offset: int = 0  # of positions
    embedding_scale: float = 1.0
    post_norm: bool = False
    residual: str = "input"  # or what the norm makes of it, or none
    final_norm: bool = True
    query_norm: bool = False
    rotary: str = ""  # halves, pairs
    theta: float = 100.0
    head_order: bool = False
    rate: float = 0.0
    dropout_after: bool = False  # the residual sum
    stops: bool = False  # the gradient of the residual
    padding_idx: int | None = None


@dataclass(frozen=True)
class Image:
    """A convolutional network's details."""

    padding: tuple[int, int] = (1, 1)
    mode: str = "zeros"
    stride: int = 2
    dilation: int = 1
    pool: str = "max"
    pool_padding: tuple[int, int] = (1, 1)
    ceil: bool = False  # of torch's pooling
    counts: bool = True
    activation: str = "relu"
    slope: float = 0.01
    swaps: bool = False  # activation before the norm
    epsilon: float = 1e-5
    momentum: float = 0.1
    unbiased: bool = True  # running variance
    is_still: bool = False  # normalises with running statistics in training
    skips_norm: bool = False
    groups: int = 0  # of group norm, in place of batch norm
    resize: str = ""  # corners, plain, smooth
    size: tuple[int, int] = (5, 2)


def activate(xp, name: str, x, slope: float):
    """Apply an activation by its name, with the functions of `torch.nn.functional` or `jax.nn`."""
    is_torch = xp is F
    if name == "gelu":
        return F.gelu(x) if is_torch else jax.nn.gelu(x, approximate=False)
    if name == "gelu_tanh":
        return F.gelu(x, approximate="tanh") if is_torch else jax.nn.gelu(x, approximate=True)
    if name == "leaky_relu":
        return xp.leaky_relu(x, slope)
    if name == "quick_gelu":
        return x * (torch.sigmoid if is_torch else jax.nn.sigmoid)(1.702 * x)
    return getattr(xp, name)(x)


class TorchText(nn.Module):
    """A small transformer."""

    def __init__(self, o: Text):
        super().__init__()
        self.o = o
        self.tokens = nn.Embedding(VOCABULARY, WIDTH, padding_idx=o.padding_idx)
        self.positions = nn.Embedding(LENGTH + 4, WIDTH)
        self.blocks = nn.ModuleList([TorchBlock(o) for _ in range(o.layers)])
        self.norm = TorchNorm(o)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens, pads):
        """Return logits of each token."""
        x = self.tokens(tokens) * self.o.embedding_scale
        x = x + self.positions(torch.arange(tokens.shape[1]) + self.o.offset)
        hidden = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
        if self.o.causal is not None:
            hidden = ~torch.tril(torch.ones(LENGTH, LENGTH, dtype=torch.bool), self.o.causal)
        if self.o.pads:
            hidden = hidden | pads[:, None, None, :]
        for block in self.blocks:
            x = block(x, hidden)
        return self.head(self.norm(x) if self.o.final_norm else x)


class TorchNorm(nn.Module):
    """A norm over the features."""

    def __init__(self, o: Text):
        super().__init__()
        self.o = o
        self.weight, self.bias = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        """Normalise."""
        o, weight = self.o, self.weight + self.o.plus_one if self.o.plus_one else self.weight
        if o.norm == "layer":
            return F.layer_norm(x, (WIDTH,), weight, self.bias, o.epsilon)
        axes = (1, 2) if o.norm == "rows" else (-1,)
        if o.norm == "rms":
            return x * torch.rsqrt((x * x).mean(-1, True) + o.epsilon) * weight + self.bias
        y = x - x.mean(axes, True)
        if o.norm == "outside":
            return y / (x.std(-1, keepdim=True, correction=0) + o.epsilon) * weight + self.bias
        variance = x.var(axes, keepdim=True, correction=int(o.norm == "unbiased"))
        return y / torch.sqrt(variance + o.epsilon) * weight + self.bias


class TorchBlock(nn.Module):
    """Attention and two layers, each with a norm and a residual."""

    def __init__(self, o: Text):
        super().__init__()
        self.o = o
        self.norm1, self.norm2 = TorchNorm(o), TorchNorm(o)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x, hidden):
        """Attend, then transform."""
        o = self.o
        for norm, work in (
            (self.norm1, lambda y: self.attend(y, hidden)),
            (self.norm2, self.transform),
        ):
            y = norm(x) if not o.post_norm else x
            residual = {"input": x, "norm": y, "none": torch.zeros(())}[o.residual]
            residual = residual.detach() if o.stops else residual
            y = work(y)
            if o.dropout_after:
                x = F.dropout(residual + y, o.rate, self.training)
            else:
                x = residual + F.dropout(y, o.rate, self.training)
            x = norm(x) if o.post_norm else x
        return x

    def attend(self, x, hidden):
        """Attention in heads."""
        o, size = self.o, WIDTH // HEADS
        parts = []
        for layer in (self.query, self.key, self.value):
            y = layer(x)
            if o.head_order:
                y = y.view(*y.shape[:2], size, HEADS).transpose(2, 3)
            else:
                y = y.view(*y.shape[:2], HEADS, size)
            parts.append(y.transpose(1, 2))
        q, k, v = parts
        if o.query_norm:
            q = q * torch.rsqrt((q * q).mean(-1, True) + 1e-6)
        if o.rotary:
            q, k = torch_rotate(q, o), torch_rotate(k, o)
        scores = (q @ k.transpose(-1, -2)) * o.scale
        scores = scores.masked_fill(hidden, o.mask_value)
        y = (F.softmax(scores, o.softmax_axis) @ v).transpose(1, 2)
        y = y.transpose(2, 3) if o.head_order else y
        return self.out(y.reshape(*x.shape[:2], WIDTH))

    def transform(self, x):
        """Two layers with an activation."""
        return self.down(activate(F, self.o.activation, self.up(x), self.o.slope))


def torch_rotate(x, o: Text):
    """Rotary positions."""
    size = x.shape[-1]
    angles = torch.arange(LENGTH)[:, None] / o.theta ** (torch.arange(0, size, 2) / size)
    sin, cos = torch.sin(angles), torch.cos(angles)
    if o.rotary == "halves":
        a, b = x[..., : size // 2], x[..., size // 2 :]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class TorchImage(nn.Module):
    """Convolution, norm, activation, pooling, and a second convolution."""

    def __init__(self, o: Image):
        super().__init__()
        self.o = o
        low, high = o.padding
        self.pads = low != high or o.mode != "zeros"
        self.first = nn.Conv2d(3, CHANNELS, 3, o.stride, 0 if self.pads else low, o.dilation)
        self.norm = nn.BatchNorm2d(CHANNELS, o.epsilon, o.momentum)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1)
        self.head = nn.Linear(CHANNELS, 3)

    def forward(self, image):
        """Return logits."""
        o = self.o
        low, high = o.padding
        mode = "constant" if o.mode == "zeros" else o.mode
        x = self.first(F.pad(image, (low, high, low, high), mode) if self.pads else image)
        if o.swaps:
            x = self.norm(activate(F, o.activation, x, o.slope))
        else:
            if o.groups:
                x = F.group_norm(x, o.groups, self.norm.weight, self.norm.bias, o.epsilon)
            else:
                x = x if o.skips_norm else self.norm(x)
            x = activate(F, o.activation, x, o.slope)
        low, high = o.pool_padding
        if o.pool == "max" and low == high:
            x = F.max_pool2d(x, 3, 2, low, ceil_mode=o.ceil)
        elif o.pool == "max":
            x = F.max_pool2d(F.pad(x, (low, high, low, high), value=-torch.inf), 3, 2)
        elif low == high:
            x = F.avg_pool2d(x, 3, 2, low, count_include_pad=o.counts)
        if o.resize:
            x = F.interpolate(
                x,
                size=o.size,
                mode="bilinear",
                align_corners=o.resize == "corners",
                antialias=o.resize == "smooth",
            )
        return self.head(self.second(x).mean((2, 3)))


def jax_text(o: Text):
    """Return the same transformer as a function of its arrays and inputs."""

    def norm(p, name, x):
        weight, bias = p[f"{name}.scale"] + o.plus_one, p[f"{name}.bias"]
        axes = (1, 2) if o.norm == "rows" else (-1,)
        if o.norm == "rms":
            return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + o.epsilon) * weight + bias
        y = x - x.mean(axes, keepdims=True)
        if o.norm == "outside":
            return y / (jnp.sqrt((y * y).mean(-1, keepdims=True)) + o.epsilon) * weight + bias
        variance = x.var(axes, keepdims=True, ddof=int(o.norm == "unbiased"))
        return y * (jax.lax.rsqrt(variance + o.epsilon) * weight) + bias

    def dense(p, name, x):
        return x @ p[f"{name}.kernel"] + p[f"{name}.bias"]

    def rotate(x):
        size = x.shape[-1]
        angles = jnp.arange(LENGTH)[:, None] / o.theta ** (jnp.arange(0, size, 2) / size)
        sin, cos = jnp.sin(angles)[None, :, None], jnp.cos(angles)[None, :, None]
        if o.rotary == "halves":
            a, b = x[..., : size // 2], x[..., size // 2 :]
            return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
        a, b = x[..., ::2], x[..., 1::2]
        return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)

    def attend(p, name, x, hidden):
        size, parts = WIDTH // HEADS, []
        for part in ("query", "key", "value"):
            y = dense(p, f"{name}.{part}", x)
            if o.head_order:
                parts.append(y.reshape(*y.shape[:2], size, HEADS).swapaxes(2, 3))
            else:
                parts.append(y.reshape(*y.shape[:2], HEADS, size))
        q, k, v = parts
        if o.query_norm:
            q = q * jax.lax.rsqrt((q * q).mean(-1, keepdims=True) + 1e-6)
        if o.rotary:
            q, k = rotate(q), rotate(k)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q * o.scale, k)
        scores = jnp.where(hidden, o.mask_value, scores)
        weights = jax.nn.softmax(scores, axis=o.softmax_axis)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        y = y.swapaxes(2, 3) if o.head_order else y
        return dense(p, f"{name}.out", y.reshape(x.shape))

    def dropout(x, training):
        if not training or not o.rate:
            return x
        keeps = jax.random.bernoulli(jax.random.key(0), 1 - o.rate, x.shape)
        return jnp.where(keeps, x / (1 - o.rate), 0.0)

    def transform(p, name, x):
        return dense(
            p, f"{name}.down", activate(jax.nn, o.activation, dense(p, f"{name}.up", x), o.slope)
        )

    def apply(p, inputs, training):
        tokens = inputs["tokens"]
        x = p["token.embedding"][tokens] * o.embedding_scale
        x = x + p["position.embedding"][jnp.arange(tokens.shape[1]) + o.offset]
        hidden = jnp.zeros((LENGTH, LENGTH), bool)
        if o.causal is not None:
            hidden = ~jnp.tril(jnp.ones((LENGTH, LENGTH), bool), o.causal)
        if o.pads:
            hidden = hidden | inputs["pads"][:, None, None, :]
        for layer in range(o.layers):
            name = f"layer_{layer}"
            works = (
                ("ln_1", lambda y, name=name: attend(p, name, y, hidden)),
                ("ln_2", lambda y, name=name: transform(p, name, y)),
            )
            for ln, work in works:
                y = x if o.post_norm else norm(p, f"{name}.{ln}", x)
                residual = {"input": x, "norm": y, "none": 0.0}[o.residual]
                residual = jax.lax.stop_gradient(residual) if o.stops else residual
                y = work(y)
                after = o.dropout_after
                x = dropout(residual + y, training) if after else residual + dropout(y, training)
                x = norm(p, f"{name}.{ln}", x) if o.post_norm else x
        x = norm(p, "ln_f", x) if o.final_norm else x
        return dense(p, "head", x), {}

    return apply


def jax_image(o: Image):
    """Return the same convolutional network as a function of its arrays and inputs."""

    def conv(p, name, x, stride, padding, dilation):
        pairs = [padding] * 2
        y = jax.lax.conv_general_dilated(
            x, p[f"{name}.kernel"], (stride, stride), pairs, rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y + p[f"{name}.bias"]

    def norm(p, x, training, buffers):
        if o.groups:
            parts = x.reshape(*x.shape[:3], o.groups, -1)
            mean, variance = (f((1, 2, 4), keepdims=True) for f in (parts.mean, parts.var))
            y = ((parts - mean) * jax.lax.rsqrt(variance + o.epsilon)).reshape(x.shape)
            return y * p["bn.scale"] + p["bn.bias"]
        if training and not o.is_still:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x[..., 0].size
            kept = variance * (count / (count - 1)) if o.unbiased else variance
            m = 1 - o.momentum
            buffers["bn.mean"] = m * p["bn.mean"] + (1 - m) * mean
            buffers["bn.var"] = m * p["bn.var"] + (1 - m) * kept
        else:
            mean, variance = p["bn.mean"], p["bn.var"]
        y = (x - mean) * jax.lax.rsqrt(variance + o.epsilon)
        return y * p["bn.scale"] + p["bn.bias"]

    def pool(x):
        low, high = o.pool_padding
        pads = ((0, 0), (low, high), (low, high), (0, 0))
        window, stride = (1, 3, 3, 1), (1, 2, 2, 1)
        if o.pool == "max":
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, stride, pads)
        y = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, stride, pads)
        if o.counts:
            return y / 9
        ones = jnp.ones((1, *x.shape[1:3], 1))
        return y / jax.lax.reduce_window(ones, 0.0, jax.lax.add, window, stride, pads)

    def apply(p, inputs, training):
        buffers: dict = {}
        x = jnp.moveaxis(inputs["image"], 1, -1)
        if o.mode != "zeros":
            low, high = o.padding
            x = jnp.pad(x, ((0, 0), (low, high), (low, high), (0, 0)), mode=o.mode)
        x = conv(p, "first", x, o.stride, o.padding if o.mode == "zeros" else (0, 0), o.dilation)
        if o.swaps:
            x = norm(p, activate(jax.nn, o.activation, x, o.slope), training, buffers)
        else:
            x = x if o.skips_norm else norm(p, x, training, buffers)
            x = activate(jax.nn, o.activation, x, o.slope)
        x = pool(x)
        if o.resize:
            x = jax.image.resize(
                x, (x.shape[0], *o.size, CHANNELS), "linear", antialias=o.resize == "smooth"
            )
        return conv(p, "second", x, 1, (1, 1), 1).mean((1, 2)) @ p["head.kernel"] + p[
            "head.bias"
        ], buffers

    return apply


def text_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the transformer's arrays."""
    found = {"token.embedding": (VOCABULARY, WIDTH), "position.embedding": (LENGTH + 4, WIDTH)}
    for layer in range(layers):
        for part in ("query", "key", "value", "out"):
            found[f"layer_{layer}.{part}.kernel"] = (WIDTH, WIDTH)
        found[f"layer_{layer}.up.kernel"] = (WIDTH, 2 * WIDTH)
        found[f"layer_{layer}.down.kernel"] = (2 * WIDTH, WIDTH)
        for norm in ("ln_1", "ln_2"):
            found[f"layer_{layer}.{norm}.scale"] = (WIDTH,)
            found[f"layer_{layer}.{norm}.bias"] = (WIDTH,)
    found |= {"ln_f.scale": (WIDTH,), "ln_f.bias": (WIDTH,), "head.kernel": (WIDTH, 3)}
    return _with_biases(found)


def image_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the convolutional network's arrays."""
    norm = {f"bn.{name}": (CHANNELS,) for name in ("scale", "bias", "mean", "var")}
    kernels = {"first.kernel": (3, 3, 3, CHANNELS), "second.kernel": (3, 3, CHANNELS, CHANNELS)}
    return _with_biases({**kernels, **norm, "head.kernel": (CHANNELS, 3)})


def _with_biases(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    biases = {n.replace("kernel", "bias"): s[-1:] for n, s in shapes.items() if "kernel" in n}
    return shapes | biases


def subject(framework: str, o: Text | Image):
    """Return a model under check."""
    if framework == "torch":
        torch.manual_seed(0)
        return ModuleSubject(TorchText(o) if isinstance(o, Text) else TorchImage(o), {})
    shapes = text_shapes(o.layers) if isinstance(o, Text) else image_shapes()
    arrays = {
        name: jnp.asarray(
            np.ones(shape) if name.endswith(("scale", "var")) else np.zeros(shape) + 0.1
        )
        for name, shape in shapes.items()
    }
    trained = frozenset(name for name in arrays if name not in ("bn.mean", "bn.var"))
    apply = jax_text(o) if isinstance(o, Text) else jax_image(o)
    return FunctionSubject(Function("functions", arrays, trained, apply))


def inputs(o: Text | Image) -> dict[str, np.ndarray]:
    """Return inputs of the models."""
    random = np.random.default_rng(0)
    if isinstance(o, Image):
        return {"image": random.standard_normal((3, 3, 9, 12))}
    pads = np.zeros((2, LENGTH), bool)
    pads[1, -2:] = True
    return {"tokens": random.integers(1, VOCABULARY, (2, LENGTH)), "pads": pads}


__all__ = ["Image", "Text", "inputs", "replace", "subject"]
