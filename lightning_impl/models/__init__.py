"""Models, by the names of the `model` config group."""

from collections.abc import Callable

from torch import nn

from lightning_impl.models.bert import BERT
from lightning_impl.models.cnn import CNN
from lightning_impl.models.custom import import_model
from lightning_impl.models.encoder_decoder import EncoderDecoder
from lightning_impl.models.gpt import GPT
from lightning_impl.models.linear import Linear
from lightning_impl.models.mlp import MLP
from lightning_impl.models.resnet import ResNet
from lightning_impl.models.simple_cnn import SimpleCNN
from lightning_impl.models.unet import UNet
from lightning_impl.models.vit import ViT
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


def build_model(config: ModelConfig, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Build a model for samples of `input_shape` ([height, width, channels], [features] or [length])."""
    return MODELS[config.name](config, input_shape, outputs)
