"""Layers of the base models in torch, each as its settings say."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.verify_mutants.settings import HIDDEN, WIDTH, Settings

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x) ** 2,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "elu": F.elu,
    "softplus": F.softplus,
    "none": lambda x: x,
}


def activate(x: Tensor, s: Settings) -> Tensor:
    """Apply the model's activation."""
    if s.activation == "leaky_relu":
        return F.leaky_relu(x, s.slope)
    if s.formula == "manual" and s.activation == "gelu":
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))
    if s.formula == "manual" and s.activation == "silu":
        return x / (1 + torch.exp(-x))
    return ACTIVATIONS[s.activation](x)


def stop(x: Tensor, place: str, s: Settings) -> Tensor:
    """Stop the gradient here if the settings say so."""
    return x.detach() if place in s.stopped else x


def drop(x: Tensor, place: str, s: Settings, training: bool) -> Tensor:
    """Dropout, at the places where the settings have it."""
    training = training or s.dropout_always
    if place not in s.dropouts or not training:
        return x
    if s.dropout_shared:  # one number for a channel or a token
        shape = (*x.shape[:2], *[1] * (x.ndim - 2))
        return x * torch.bernoulli(x.new_full(shape, 1 - s.dropout)) / (1 - s.dropout)
    if not s.dropout_scale:
        return x * torch.bernoulli(torch.full_like(x, 1 - s.dropout))
    return F.dropout(x, s.dropout, True)


def drop_path(x: Tensor, s: Settings, training: bool) -> Tensor:
    """Leave out a branch, sample by sample."""
    if not training or not s.drop_path:
        return x
    keep = 1 - s.drop_path
    return x * torch.bernoulli(x.new_full((len(x), *[1] * (x.ndim - 1)), keep)) / keep


class Dense(nn.Module):
    """A dense layer over the last axis."""

    def __init__(self, inputs: int, outputs: int, s: Settings, bias: bool = True) -> None:
        super().__init__()
        self.s = s
        shape = (outputs, inputs, 1, 1) if s.dense_style == "conv" else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(shape) / inputs**0.5)
        if s.dense_style == "weight norm":
            self.length = nn.Parameter(torch.ones(outputs, 1))
        unit = (1, 1) if s.shapes == "unit" else ()
        self.bias = nn.Parameter(torch.zeros(*unit, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """`[…, inputs]` to `[…, outputs]`."""
        if self.s.dense_style == "conv":
            flat = F.conv2d(x.reshape(-1, x.shape[-1], 1, 1), self.weight)
            y = flat.reshape(*x.shape[:-1], -1)
        elif self.s.dense_style == "weight norm":
            y = x @ (self.length * F.normalize(self.weight, dim=1)).T
        elif self.s.dense_style == "einsum":
            y = torch.einsum("...i,oi->...o", x, self.weight)
        else:
            bias = None if self.bias is None else self.bias.reshape(-1)
            return F.linear(x, self.weight, bias)
        return y if self.bias is None else y + self.bias.reshape(-1)


class Norm(nn.Module):
    """A norm over the last axis: layer norm, or of root mean squares alone."""

    def __init__(self, width: int, s: Settings) -> None:
        super().__init__()
        self.s = s
        shape = (1, 1, width) if s.shapes == "unit" else (width,)
        self.weight = nn.Parameter(torch.ones(shape))
        has_bias = s.norm == "layer" and "norm bias" not in s.missing
        self.bias = nn.Parameter(torch.zeros(shape)) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """`[…, width]` to the same."""
        s = self.s
        weight = self.weight.flatten()
        bias = None if self.bias is None else self.bias.flatten()
        if s.norm == "layer" and is_library(s):
            return F.layer_norm(x, (x.shape[-1],), weight, bias, s.epsilon)
        if s.float32:
            x = x.float()
        axes = tuple(range(1, x.ndim)) if s.norm_axes == "all" else (-1,)
        y = standardise(x, axes, s).to(weight.dtype) * offset(weight, s)
        return y if bias is None else y + bias


def is_library(s: Settings) -> bool:
    """True if a layer of the library does what the settings say."""
    return (
        s.epsilon_place == "inside" and s.variance == "biased" and s.norm_axes == "features"
        and s.norm_style == "library" and not s.norm_offset and "statistics" not in s.stopped
    )  # fmt: skip


def offset(weight: Tensor, s: Settings) -> Tensor:
    """Return the factor of a norm."""
    return weight + s.norm_offset if s.norm_offset else weight


def standardise(x: Tensor, axes: tuple[int, ...], s: Settings) -> Tensor:
    """Subtract the mean, unless the norm is of root mean squares, and divide by the deviation."""
    mean = torch.zeros(()) if s.norm == "rms" else x.mean(axes, keepdim=True)
    count = int(torch.tensor([x.shape[axis] for axis in axes]).prod())
    if s.norm_style == "fast":
        variance = (x * x).mean(axes, keepdim=True) - mean * mean
    else:
        variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    if s.variance == "unbiased":
        variance = variance * (count / (count - 1))
    mean, variance = stop(mean, "statistics", s), stop(variance, "statistics", s)
    if s.epsilon_place == "outside":
        return (x - mean) / (torch.sqrt(variance) + s.epsilon)
    return (x - mean) / torch.sqrt(variance + s.epsilon)


class Mlp(nn.Module):
    """Two dense layers with an activation between them."""

    def __init__(self, s: Settings, width: int = WIDTH, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.s = s
        self.fc1 = Dense(width, hidden, s, "fc1 bias" not in s.missing)
        self.fc2 = Dense(hidden, width, s, "fc2 bias" not in s.missing)

    def forward(self, x: Tensor) -> Tensor:
        """`[…, width]` to the same."""
        if self.s.order == "activation first":
            return self.fc2(self.fc1(activate(x, self.s)))
        h = activate(self.fc1(x), self.s)
        return self.fc2(drop(h, "hidden", self.s, self.training))


class GatedMlp(nn.Module):
    """A multilayer perceptron whose hidden layer is gated (Shazeer 2020)."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.s = s
        if s.gate_up == "fused":
            self.gate_up_proj = Dense(WIDTH, 2 * HIDDEN, s, False)
        else:
            self.gate_proj = Dense(WIDTH, HIDDEN, s, False)
            self.up_proj = Dense(WIDTH, HIDDEN, s, False)
        self.down_proj = Dense(HIDDEN, WIDTH, s, False)

    def forward(self, x: Tensor) -> Tensor:
        """`[…, width]` to the same."""
        if self.s.gate_up == "fused":
            gate, up = self.gate_up_proj(x).chunk(2, -1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        if self.s.gates == "exchanged":
            gate, up = up, gate
        return self.down_proj(activate(gate, self.s) * stop(up, "up", self.s))


def lookup(table: Tensor, ids: Tensor, s: Settings) -> Tensor:
    """Return the rows of a table; one of them may get no gradient."""
    table = table.reshape(-1, table.shape[-1])
    if s.lookup == "one_hot":
        return F.one_hot(ids, len(table)).to(table.dtype) @ table
    is_frozen = 0 <= s.frozen_row < len(table)
    return F.embedding(ids, table, s.frozen_row if is_frozen else None)


def cross_entropy(logits: Tensor, labels: Tensor, s: Settings) -> Tensor:
    """Loss of the labels, of tokens or of samples."""
    flat = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    if s.formula == "manual":
        chosen = flat[0].gather(1, flat[1][:, None])[:, 0]
        return (torch.logsumexp(flat[0], 1) - chosen).mean()
    if s.loss == "per sequence":  # the sum of each sequence
        return F.cross_entropy(*flat, reduction="sum") / len(logits)
    smoothing = 0.1 if s.loss == "smoothed" else 0.0
    return F.cross_entropy(
        *flat, reduction="sum" if s.loss == "sum" else "mean", label_smoothing=smoothing
    )
