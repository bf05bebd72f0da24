"""The `model` group."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from pipeline.config.fields import option, require


class Activation(Enum):
    relu = "relu"
    sigmoid = "sigmoid"
    tanh = "tanh"
    gelu = "gelu"


class Initial(Enum):
    """Distribution of the weights at step 0; `pipeline/initial.py` has the formulas."""

    torch = "torch"
    lecun_normal = "lecun_normal"
    he_normal = "he_normal"
    xavier_uniform = "xavier_uniform"


@dataclass(kw_only=True)
class ModelConfig:
    name: str = option(MISSING, "the model's name in both backends' registries")
    init: Initial = option(Initial.torch, "distribution of the weights at step 0")


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


def require_widths(key: str, widths: list[int]) -> None:
    """Raise unless every layer width is positive."""
    require(all(width >= 1 for width in widths), key, widths, "a list of positive numbers")


MODELS = {
    "linear": LinearConfig,
    "mlp": MLPConfig,
    "cnn": CNNConfig,
    "simple_cnn": SimpleCNNConfig,
}
