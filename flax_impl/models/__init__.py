"""Models, by the names of the `model` config group."""

from collections.abc import Callable

import flax.linen as nn

from flax_impl.device import DType
from flax_impl.models.bert import BERT
from flax_impl.models.cnn import CNN
from flax_impl.models.custom import import_model
from flax_impl.models.encoder_decoder import EncoderDecoder
from flax_impl.models.gpt import GPT
from flax_impl.models.linear import Linear
from flax_impl.models.mlp import MLP
from flax_impl.models.resnet import ResNet
from flax_impl.models.simple_cnn import SimpleCNN
from flax_impl.models.unet import UNet
from flax_impl.models.vit import ViT
from pipeline.config.models import ModelConfig

MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear": Linear,
    "mlp": MLP,
    "cnn": CNN,
    "simple_cnn": SimpleCNN,
    "resnet18": ResNet,
    "resnet50": ResNet,
    "unet": UNet,
    "vit": ViT,
    "gpt": GPT,
    "bert": BERT,
    "encoder_decoder": EncoderDecoder,
    "own": import_model,
}


def build_model(
    config: ModelConfig, input_shape: tuple[int, ...], outputs: int, **dtypes: DType
) -> nn.Module:
    """Build a model for samples of `input_shape` ([height, width, channels], [features] or [length]).

    `dtypes` are `dtype` of products and convolutions, and `param_dtype` of parameters. Only here: torch
    converts a built model instead.
    """
    return MODELS[config.name](config, input_shape, outputs, **dtypes)
