"""Weights at step 0, drawn once here so that both backends load the same bytes."""

from collections.abc import Mapping
from math import prod, sqrt

import numpy as np

from pipeline.config import Initial
from pipeline.draws import generator

Shape = tuple[int, ...]

SMALL = 0.02  # deviation of a transformer's weights (Radford et al. 2018)
RESIDUAL = ".c_proj.weight"  # that add to GPT-2's residual stream, and so are drawn smaller


def initial_parameters(
    shapes: Mapping[str, Shape], kinds: Mapping[str, str], seed: int, distribution: Initial
) -> dict[str, np.ndarray]:
    """Every parameter of a model at step 0, in float64.

    Args:
        shapes: canonical parameter name (`conv1.weight`) to canonical shape (torch's layout: `OIHW`
            for convolutions, `[out, in]` for dense layers).
        kinds: canonical layer name (`conv1`) to layer kind (`linear`, `conv`, `norm`, `embedding`,
            `attention`, …; `own` for a parameter that is no layer's).
        seed: the run's seed; each parameter has its own stream, keyed by its name.
        distribution: of the weights.
    """
    residual = [name for name in shapes if name.endswith(RESIDUAL)]
    parameters = {}
    for name, shape in shapes.items():
        layer, _, role = name.rpartition(".")
        kind, random = kinds[layer], generator(seed, "weights", name)
        if kind == "norm":
            parameters[name] = np.ones(shape) if role == "weight" else np.zeros(shape)
        elif kind in DRAWS:
            parameters[name] = DRAWS[kind](random, shape, distribution)
        else:
            weight = shapes[f"{layer}.weight"]
            parameters[name] = draw(random, shape, weight, role, kind, distribution)
        if distribution is Initial.gpt2 and name in residual:
            parameters[name] /= sqrt(len(residual))
    return parameters


def initial_buffers(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Batch statistics before any batch: mean 0, variance 1.

    Args:
        shapes: canonical buffer name (`bn1.running_mean`) to shape.
    """
    ones = (".running_var",)
    return {
        name: np.ones(shape) if name.endswith(ones) else np.zeros(shape)
        for name, shape in shapes.items()
    }


def draw(
    random: np.random.Generator,
    shape: Shape,
    weight: Shape,
    role: str,
    kind: str,
    distribution: Initial,
) -> np.ndarray:
    """One weight or bias of a dense or convolution layer.

    `torch` is what torch.nn.Linear and Conv2d do by default: U(±1/√fan_in), biases too
    (torch/nn/modules/linear.py). `resnet` is the same but for convolutions, which are He et al.'s 2015
    by the fan-out, as torchvision's. The others leave biases at zero: LeCun et al. 1998 and He et al.
    2015, both normal and cut off at two deviations as jax.nn.initializers does, Glorot & Bengio 2010,
    and normal with deviation 0.02, cut off (`vit`: Dosovitskiy et al. 2021 as in timm) or not (`gpt2`:
    Radford et al. 2019).
    """
    fan_in, fan_out = prod(weight[1:]), weight[0] * prod(weight[2:])
    if distribution is Initial.resnet and kind == "conv":
        return random.normal(0, sqrt(2 / fan_out), shape) if role == "weight" else np.zeros(shape)
    if distribution in (Initial.torch, Initial.resnet):
        bound = 1 / sqrt(fan_in)
        return random.uniform(-bound, bound, shape)
    if role == "bias":
        return np.zeros(shape)
    if distribution is Initial.gpt2:
        return random.normal(0, SMALL, shape)
    if distribution is Initial.vit and kind == "linear":
        return truncated_normal(random, shape) * SMALL
    if distribution is Initial.xavier_uniform:
        bound = sqrt(6 / (fan_in + fan_out))
        return random.uniform(-bound, bound, shape)
    variance = 2 / fan_in if distribution is Initial.he_normal else 1 / fan_in
    # Cutting a normal at ±2σ leaves 0.8796 of its deviation.
    return truncated_normal(random, shape) * sqrt(variance) / 0.87962566103423978


def draw_embedding(random: np.random.Generator, shape: Shape, distribution: Initial) -> np.ndarray:
    """N(0, 1) as torch.nn.Embedding, or N(0, 0.02²) in a transformer."""
    small = distribution in (Initial.gpt2, Initial.vit)
    return random.normal(0, SMALL if small else 1.0, shape)


def draw_attention(random: np.random.Generator, shape: Shape, distribution: Initial) -> np.ndarray:
    """The packed projections of torch.nn.MultiheadAttention: Glorot & Bengio 2010; no bias."""
    bound = sqrt(6 / sum(shape))
    return random.uniform(-bound, bound, shape) if len(shape) == 2 else np.zeros(shape)


def draw_own(random: np.random.Generator, shape: Shape, distribution: Initial) -> np.ndarray:
    """Class tokens and positions, N(0, 0.02²); scales and shifts, which have one axis or none, 0."""
    return random.normal(0, SMALL, shape) if len(shape) > 1 else np.zeros(shape)


def truncated_normal(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Standard normal numbers within ±2; those outside are drawn again."""
    values = random.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(outside.sum())
    return values


# Kinds whose draw does not depend on a fan.
DRAWS = {"embedding": draw_embedding, "attention": draw_attention, "own": draw_own}
