"""Weights at step 0, drawn in NumPy so that both backends load the same bytes."""

from collections.abc import Mapping
from math import prod, sqrt

import numpy as np

from pipeline.config.models import Initializer
from pipeline.errors import UserError
from pipeline.rng import generator

Shape = tuple[int, ...]

SMALL = 0.02  # standard deviation of a transformer's weights (Radford et al. 2018)
WITHOUT_FAN = ("norm", "embedding", "attention", "own")  # kinds drawn without fan-in and fan-out
RESIDUAL = ".c_proj.weight"  # weights that write to GPT-2's residual stream are scaled down


def initial_parameters(
    shapes: Mapping[str, Shape], kinds: Mapping[str, str], seed: int, distribution: Initializer
) -> dict[str, np.ndarray]:
    """Draw every parameter of a model at step 0, in float64, each from its own stream of the seed.

    `shapes` maps canonical parameter names (`conv1.weight`) to shapes in torch's layout: `OIHW` for
    convolutions, `[out, in]` for dense layers. `kinds` maps canonical layer names (`conv1`) to layer kinds
    (`linear`, `conv`, `norm`, `embedding`, `attention`, …; `own` for a parameter outside any layer).
    """
    residual = [name for name in shapes if name.endswith(RESIDUAL)]
    parameters = {}
    for name, shape in shapes.items():
        layer, _, role = name.rpartition(".")
        kind = kinds[layer]
        weight = shape if kind in WITHOUT_FAN else shapes.get(f"{layer}.weight")
        if weight is None:
            problem = f"{name} is drawn by the shape of {layer}.weight, which is no parameter"
            hint = (
                "Leave out the bias of a layer with a tied or computed weight, or add it by itself."
            )
            raise UserError("model.init", distribution.name, problem=problem, hint=hint)
        random = generator(seed, "weights", name)
        parameters[name] = draw(random, shape, weight, role, kind, distribution)
        if distribution is Initializer.gpt2 and name in residual:
            parameters[name] /= sqrt(len(residual))
    return parameters


def initial_buffers(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Running statistics at step 0, by canonical name (`bn1.running_mean`): mean 0, variance 1."""
    return {
        name: np.ones(shape) if name.endswith(".running_var") else np.zeros(shape)
        for name, shape in shapes.items()
    }


def draw(
    random: np.random.Generator,
    shape: Shape,
    weight: Shape,
    role: str,
    kind: str,
    distribution: Initializer,
) -> np.ndarray:
    """Draw one parameter of a layer whose weight has the shape `weight`.

    Dense and convolution layers, by the distribution:

    - `torch`: the default of torch.nn.Linear and Conv2d, U(±1/√fan_in), biases too
      (torch/nn/modules/linear.py).
    - `resnet`: as `torch`, but convolutions as torchvision's: He et al. 2015 by the fan-out.
    - The others set biases to zero: LeCun et al. 1998 and He et al. 2015, both normal and truncated at
      two standard deviations as in jax.nn.initializers; Glorot & Bengio 2010; and normal with standard
      deviation 0.02, truncated (`vit`: Dosovitskiy et al. 2021 as in timm) or not (`gpt2`: Radford et
      al. 2019).
    """
    if kind == "norm":
        return np.ones(shape) if role == "weight" else np.zeros(shape)
    if kind == "embedding":  # N(0, 1) as torch.nn.Embedding, or N(0, 0.02²) in a transformer
        is_small = distribution in (Initializer.gpt2, Initializer.vit)
        return random.normal(0, SMALL if is_small else 1.0, shape)
    if kind == "attention":
        # Packed as in torch.nn.MultiheadAttention: Glorot & Bengio 2010; bias 0.
        bound = sqrt(6 / sum(shape))
        return random.uniform(-bound, bound, shape) if len(shape) == 2 else np.zeros(shape)
    if kind == "own":  # class tokens and positions; scales and shifts (at most one axis) are 0
        return random.normal(0, SMALL, shape) if len(shape) > 1 else np.zeros(shape)
    fan_in, fan_out = prod(weight[1:]), weight[0] * prod(weight[2:])
    if distribution is Initializer.resnet and kind == "conv":
        return random.normal(0, sqrt(2 / fan_out), shape) if role == "weight" else np.zeros(shape)
    if distribution in (Initializer.torch, Initializer.resnet):
        bound = 1 / sqrt(fan_in)
        return random.uniform(-bound, bound, shape)
    if role == "bias":
        return np.zeros(shape)
    if distribution is Initializer.gpt2:
        return random.normal(0, SMALL, shape)
    if distribution is Initializer.vit and kind == "linear":
        return truncated_normal(random, shape) * SMALL
    if distribution is Initializer.xavier_uniform:
        bound = sqrt(6 / (fan_in + fan_out))
        return random.uniform(-bound, bound, shape)
    variance = 2 / fan_in if distribution is Initializer.he_normal else 1 / fan_in
    # Truncating a normal at ±2σ leaves 0.8796 of its standard deviation.
    return truncated_normal(random, shape) * sqrt(variance) / 0.87962566103423978


def truncated_normal(random: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw standard normal numbers, and draw those outside ±2 again."""
    values = random.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.standard_normal(outside.sum())
    return values
