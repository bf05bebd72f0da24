"""Weights at step 0, drawn once here so that both backends load the same bytes."""

from collections.abc import Mapping
from math import prod, sqrt

import numpy as np

from pipeline.config import Initial
from pipeline.draws import generator

Shape = tuple[int, ...]


def initial_parameters(
    shapes: Mapping[str, Shape], kinds: Mapping[str, str], seed: int, distribution: Initial
) -> dict[str, np.ndarray]:
    """Every parameter of a model at step 0, in float64.

    Args:
        shapes: canonical parameter name (`conv1.weight`) to canonical shape (torch's layout: `OIHW`
            for convolutions, `[out, in]` for dense layers).
        kinds: canonical layer name (`conv1`) to layer kind (`linear`, `conv`, `norm`).
        seed: the run's seed; each parameter has its own stream, keyed by its name.
        distribution: of the weights of dense and convolution layers.
    """
    parameters = {}
    for name, shape in shapes.items():
        layer, _, role = name.rpartition(".")
        if kinds[layer] == "norm":
            parameters[name] = np.ones(shape) if role == "weight" else np.zeros(shape)
        else:
            weight = shapes[f"{layer}.weight"]
            parameters[name] = draw(
                generator(seed, "weights", name), shape, weight, role, distribution
            )
    return parameters


def draw(
    random: np.random.Generator, shape: Shape, weight: Shape, role: str, distribution: Initial
) -> np.ndarray:
    """One weight or bias of a dense or convolution layer.

    `torch` is what torch.nn.Linear and Conv2d do by default: U(±1/√fan_in), biases too
    (torch/nn/modules/linear.py). The others leave biases at zero: LeCun et al. 1998 and He et al.
    2015, both normal and cut off at two deviations as jax.nn.initializers does, and Glorot & Bengio 2010.
    """
    fan_in, fan_out = prod(weight[1:]), weight[0] * prod(weight[2:])
    if distribution is Initial.torch:
        bound = 1 / sqrt(fan_in)
        return random.uniform(-bound, bound, shape)
    if role == "bias":
        return np.zeros(shape)
    if distribution is Initial.xavier_uniform:
        bound = sqrt(6 / (fan_in + fan_out))
        return random.uniform(-bound, bound, shape)
    variance = {Initial.lecun_normal: 1 / fan_in, Initial.he_normal: 2 / fan_in}[distribution]
    # Cutting a normal at ±2σ leaves 0.8796 of its deviation.
    return truncated_normal(random, shape) * sqrt(variance) / 0.87962566103423978


def truncated_normal(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Standard normal numbers within ±2; those outside are drawn again."""
    values = random.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(outside.sum())
    return values
