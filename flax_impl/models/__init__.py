"""The models, by the names of the `model` config group."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from flax_impl.models.cnn import CNN
from flax_impl.models.gpt import GPT
from flax_impl.models.linear import Linear
from flax_impl.models.mlp import MLP
from flax_impl.models.own import own
from flax_impl.models.resnet18 import ResNet18
from flax_impl.models.simple_cnn import SimpleCNN
from flax_impl.models.vit import ViT
from pipeline.config import ModelConfig

MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear": Linear,
    "mlp": MLP,
    "cnn": CNN,
    "simple_cnn": SimpleCNN,
    "resnet18": ResNet18,
    "vit": ViT,
    "gpt": GPT,
    "own": own,
}


def build_model(
    config: ModelConfig, input_shape: tuple[int, ...], outputs: int, **dtypes: Any
) -> nn.Module:
    """A model for samples of `input_shape` ([height, width, channels], [features] or [length]).

    Args:
        config: of the `model` group.
        input_shape: of one sample.
        outputs: classes, or width of the target.
        dtypes: `dtype` of products and convolutions, `param_dtype` of parameters. Only here: torch
            converts a built model instead.
    """
    return MODELS[config.name](config, input_shape, outputs, **dtypes)
