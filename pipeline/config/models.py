"""The `model` group."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from omegaconf import MISSING

from pipeline.config.fields import option, require

DISTRIBUTION = "distribution of the weights at step 0"
NORM_EPSILON = "added to the variance in layer normalisation"


class Activation(Enum):
    relu = "relu"
    sigmoid = "sigmoid"
    tanh = "tanh"
    gelu = "gelu"
    gelu_tanh = "gelu_tanh"


class Initial(Enum):
    """Distribution of the weights at step 0; `pipeline/initial.py` has the formulas."""

    torch = "torch"
    lecun_normal = "lecun_normal"
    he_normal = "he_normal"
    xavier_uniform = "xavier_uniform"
    resnet = "resnet"
    vit = "vit"
    gpt2 = "gpt2"


class Stem(Enum):
    """How a residual network begins."""

    cifar = "cifar"
    imagenet = "imagenet"


class Pool(Enum):
    """What a vision transformer classifies by: its class token, or the mean of its patches."""

    token = "token"
    mean = "mean"


@dataclass(kw_only=True)
class ModelConfig:
    name: str = option(MISSING, "the model's name in both backends' registries")
    init: Initial = option(Initial.torch, DISTRIBUTION)


@dataclass(kw_only=True)
class LinearConfig(ModelConfig):
    name: str = "linear"


@dataclass(kw_only=True)
class MLPConfig(ModelConfig):
    name: str = "mlp"
    hidden: list[int] = option([256, 128], "width of each hidden layer")
    activation: Activation = option(Activation.relu, "between the layers")

    def __post_init__(self) -> None:
        require_widths("model.hidden", self.hidden)


@dataclass(kw_only=True)
class CNNConfig(ModelConfig):
    name: str = "cnn"
    channels: list[int] = option([6, 16], "channels of the two convolutions")
    kernel_size: int = option(5, "side of the convolutions' square kernels")
    padding: int = option(2, "zeros added on each side before a convolution")
    hidden: list[int] = option([120, 84], "width of the dense layers before the classes")
    activation: Activation = option(Activation.relu, "after every hidden layer")
    input_size: int | None = option(
        None, "pad images with zeros to this side (LeNet's 28 to 32); null: as they are"
    )

    def __post_init__(self) -> None:
        require(len(self.channels) == 2, "model.channels", self.channels, "a list of two numbers")
        require_widths("model.channels", self.channels)
        require_widths("model.hidden", self.hidden)
        require(self.kernel_size >= 1, "model.kernel_size", self.kernel_size, "at least 1")
        require(self.padding >= 0, "model.padding", self.padding, "0 or more")


@dataclass(kw_only=True)
class SimpleCNNConfig(ModelConfig):
    name: str = "simple_cnn"
    channels: int = option(16, "channels of the one convolution")

    def __post_init__(self) -> None:
        require(self.channels >= 1, "model.channels", self.channels, "at least 1")


@dataclass(kw_only=True)
class ResNet18Config(ModelConfig):
    name: str = "resnet18"
    init: Initial = option(Initial.resnet, DISTRIBUTION)
    stem: Stem = option(
        Stem.cifar, "first layers; imagenet: 7×7 and a pool, for sides of 100 and more; cifar: 3×3"
    )
    width: int = option(
        64, "channels of the first stage; each of the other three has twice as many"
    )

    def __post_init__(self) -> None:
        require(self.width >= 1, "model.width", self.width, "at least 1")


@dataclass(kw_only=True)
class TransformerConfig(ModelConfig):
    """What vision and language transformers share."""

    depth: int = option(4, "blocks of attention and MLP")
    heads: int = option(4, "heads of each attention")
    width: int = option(128, "numbers that stand for a patch or token")
    dropout: float = option(0.0, "share of the numbers that is dropped after embedding and layers")
    norm_epsilon: float = option(1e-5, NORM_EPSILON)

    def __post_init__(self) -> None:
        require(self.depth >= 1, "model.depth", self.depth, "at least 1")
        require(self.width >= 1, "model.width", self.width, "at least 1")
        require(
            self.heads >= 1 and self.width % self.heads == 0,
            "model.heads",
            self.heads,
            f"a divisor of model.width={self.width}",
            "Each head has an equal share of the width.",
        )
        require_rate("model.dropout", self.dropout)
        require(self.norm_epsilon > 0, "model.norm_epsilon", self.norm_epsilon, "above 0")


@dataclass(kw_only=True)
class ViTConfig(TransformerConfig):
    name: str = "vit"
    init: Initial = option(Initial.vit, DISTRIBUTION)
    depth: int = option(6, "blocks of attention and MLP")
    norm_epsilon: float = option(1e-6, NORM_EPSILON)  # of the paper's code and timm; GPT-2 has 1e-5
    patch: int = option(4, "side of the square patches that the image is cut into")
    pool: Pool = option(Pool.token, "what is classified: a class token, or the mean of all patches")
    drop_path: float = option(
        0.0, "share of the samples that skip a layer of the last block; grows with depth, from 0"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.patch >= 1, "model.patch", self.patch, "at least 1")
        require_rate("model.drop_path", self.drop_path)


@dataclass(kw_only=True)
class GPTConfig(TransformerConfig):
    name: str = "gpt"
    init: Initial = option(Initial.gpt2, DISTRIBUTION)
    max_length: int | None = option(
        None, "tokens that have a position; null: as many as a sample of the data set has"
    )
    bias: bool = option(True, "whether dense layers have biases, as GPT-2's")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.max_length is None or self.max_length >= 1,
            "model.max_length",
            self.max_length,
            "null or at least 1",
        )


@dataclass(kw_only=True)
class OwnConfig(ModelConfig):
    """A user's own pair of models."""

    name: str = "own"
    torch: str | None = option(None, "your torch.nn.Module, as package.module:Class")
    jax: str | None = option(None, "your flax.linen.Module, as package.module:Class")
    options: dict[str, Any] = option({}, "arguments of both, after input_shape and outputs")


def require_rate(key: str, rate: float) -> None:
    """Raise unless something may be dropped at this rate."""
    require(0 <= rate < 1, key, rate, "in [0, 1)")


def require_widths(key: str, widths: list[int]) -> None:
    """Raise unless every layer width is positive."""
    require(all(width >= 1 for width in widths), key, widths, "a list of positive numbers")


MODELS = {
    "linear": LinearConfig,
    "mlp": MLPConfig,
    "cnn": CNNConfig,
    "simple_cnn": SimpleCNNConfig,
    "resnet18": ResNet18Config,
    "vit": ViTConfig,
    "gpt": GPTConfig,
    "own": OwnConfig,
}
