"""The `model` group."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from omegaconf import MISSING

from pipeline.config.fields import ConfigGroup, option, require

WIDTHS = "a list of positive numbers"


class Activation(Enum):
    relu = "relu"
    sigmoid = "sigmoid"
    tanh = "tanh"
    gelu = "gelu"
    gelu_tanh = "gelu_tanh"


class Initializer(Enum):
    """Distribution of the weights at step 0; `pipeline/training/initializers.py` has the formulas."""

    torch = "torch"
    lecun_normal = "lecun_normal"
    he_normal = "he_normal"
    xavier_uniform = "xavier_uniform"
    resnet = "resnet"
    vit = "vit"
    gpt2 = "gpt2"
    own = "own"  # of a user's own model: the values that it makes itself


class Stem(Enum):
    """First layers of a residual network."""

    cifar = "cifar"
    imagenet = "imagenet"


# By the sides of their kernels.
STEMS: dict[tuple[int, ...], Stem] = {(3, 3): Stem.cifar, (7, 7): Stem.imagenet}


class Pool(Enum):
    """Input of a vision transformer's classifier: its class token, or the mean of its patches."""

    token = "token"
    mean = "mean"


class AttentionKernel(Enum):
    """Computation of softmax(QKᵀ / √d) V."""

    auto = "auto"  # the fastest that the device and the precision have
    written_out = "written_out"  # the softmax is kept for the gradient
    recomputed = "recomputed"  # the softmax is computed again for the gradient
    fused = "fused"  # the softmax is never in memory; torch's and cuDNN's flash kernels


class ModelConfig(ConfigGroup, key="model"):
    name: str = option(MISSING, "the model's name in both backends' registries")
    init: Initializer = option(Initializer.torch, "distribution of the weights at step 0")
    weights: str | None = option(
        None,
        "weights to start from: a run, or a file by torch's names, safetensors or .pt; null: model.init",
    )
    weights_skip: list[str] = option(
        [], "parameters that start by model.init all the same: names with wildcards like 'fc.*'"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.init is not Initializer.own or isinstance(self, OwnConfig)
        allowed = "another one: own is for the weights that the model of model=own makes itself"
        require(fits, "model.init", self.init.name, allowed)

    def setting_for(self, name: str, given: Sequence[int], shape: Sequence[int]) -> str:
        """Return the setting with which a parameter of `shape` has that of a file; empty without one."""
        return ""


class LinearConfig(ModelConfig):
    name: str = "linear"


class MLPConfig(ModelConfig):
    name: str = "mlp"
    hidden: list[int] = option([256, 128], "width of each hidden layer", WIDTHS)
    activation: Activation = option(Activation.relu, "between the layers")


class CNNConfig(ModelConfig):
    name: str = "cnn"
    channels: list[int] = option(
        [6, 16], "channels of the two convolutions", "a list of two numbers", WIDTHS
    )
    kernel_size: int = option(5, "side of the convolutions' square kernels", "at least 1")
    padding: int = option(2, "zeros added on each side before a convolution", "0 or more")
    hidden: list[int] = option([120, 84], "width of the dense layers before the classes", WIDTHS)
    activation: Activation = option(Activation.relu, "after every hidden layer")
    input_size: int | None = option(
        None, "pad images with zeros to this side (LeNet's 28 to 32); null: as they are"
    )


class SimpleCNNConfig(ModelConfig):
    name: str = "simple_cnn"
    channels: int = option(16, "channels of the one convolution", "at least 1")


class ResNetConfig(ModelConfig):
    """Keys of all residual networks."""

    init: Initializer = Initializer.resnet
    stem: Stem = option(
        Stem.cifar, "first layers; imagenet: 7×7 and a pool, for sides of 100 and more; cifar: 3×3"
    )
    width: int = option(64, "channels of stage 1; each later stage doubles them", "at least 1")

    def setting_for(self, name: str, given: Sequence[int], shape: Sequence[int]) -> str:
        stem = STEMS.get(tuple(given[2:]))
        fits = name == "conv1.weight" and tuple(given[:2]) == tuple(shape[:2])
        return f"model.stem={stem.name}" if fits and stem else ""


class ResNet18Config(ResNetConfig):
    name: str = "resnet18"


class ResNet50Config(ResNetConfig):
    """Bottleneck blocks: each stage has four times the channels."""

    name: str = "resnet50"


class UNetConfig(ModelConfig):
    name: str = "unet"
    depth: int = option(
        2, "levels below the first, each of half the height and width", "at least 1"
    )
    width: int = option(
        32, "channels of the first level; each deeper one doubles them", "at least 1"
    )
    groups: int = option(8, "groups of channels that are normalised together", "at least 1")
    dropout: float = option(0.0, "dropout probability", "in [0, 1)")
    time: bool | None = option(
        None, "whether it takes the time (level of noise), too; null: if the task draws one"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.width % self.groups == 0
        require(fits, "model.groups", self.groups, f"a divisor of model.width={self.width}")


class TransformerConfig(ModelConfig):
    """Keys of both vision and language transformers."""

    depth: int = option(4, "blocks of attention and MLP", "at least 1")
    heads: int = option(4, "heads of each attention")
    width: int = option(128, "embedding dimension", "at least 1")
    dropout: float = option(0.0, "dropout probability", "in [0, 1)")
    norm_epsilon: float = option(1e-5, "added to the variance in layer normalisation", "above 0")
    attention: AttentionKernel = option(
        AttentionKernel.auto,
        "kernel: written_out; recomputed and fused keep no softmax; auto: the device's fastest",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.heads >= 1 and self.width % self.heads == 0
        hint = "Each head has an equal share of the width."
        allowed = f"a divisor of model.width={self.width}"
        require(fits, "model.heads", self.heads, allowed, hint)

    def tokens(self, input_shape: Sequence[int]) -> int:
        """Number of tokens that attend to each other, of a sample of `input_shape`."""
        return input_shape[0]


class ViTConfig(TransformerConfig):
    name: str = "vit"
    init: Initializer = Initializer.vit
    depth: int = 6
    norm_epsilon: float = 1e-6  # of the paper's code and timm; GPT-2 has 1e-5
    patch: int = option(4, "side of the square patches that the image is cut into", "at least 1")
    pool: Pool = option(
        Pool.token, "input of the classifier head: a class token, or the mean of all patches"
    )
    drop_path: float = option(
        0.0, "stochastic-depth rate, rising linearly to this in the last block", "in [0, 1)"
    )

    def tokens(self, input_shape: Sequence[int]) -> int:
        height, width, _ = input_shape
        return height // self.patch * (width // self.patch) + (self.pool is Pool.token)


class TokenConfig(TransformerConfig):
    """Keys of transformers of token sequences."""

    init: Initializer = Initializer.gpt2
    max_length: int | None = option(
        None, "longest input in tokens; null: that of the data set", "null or at least 1"
    )
    bias: bool = option(True, "whether dense layers have biases, as GPT-2's")
    activation: Activation = option(
        Activation.gelu_tanh, "after hidden layers; GPT-2: gelu_tanh; published BERTs: gelu"
    )


class GPTConfig(TokenConfig):
    name: str = "gpt"


class BERTConfig(TokenConfig):
    name: str = "bert"
    init: Initializer = Initializer.vit  # BERT's, too
    norm_epsilon: float = 1e-12


class EncoderDecoderConfig(TokenConfig):
    name: str = "encoder_decoder"
    depth: int = option(2, "blocks of the encoder, and of the decoder")


class OwnConfig(ModelConfig):
    """A user's own pair of models."""

    name: str = "own"
    init: Initializer = option(
        Initializer.own,
        "own: as your model starts itself, a pair as its torch model; or a distribution for all layers",
    )
    torch: str | None = option(None, "your torch.nn.Module, as package.module:Class")
    jax: str | None = option(
        None, "your flax.linen.Module, flax.nnx.Module or equinox.Module, as package.module:Class"
    )
    names: str | None = option(
        None,
        "pairs of names that differ: auto (found as pipeline.verify finds them), or a file; null: none",
    )
    options: dict[str, Any] = option({}, "arguments of both, after input_shape and outputs")
    output: str | None = option(
        None, "entry of its outputs that the loss takes, by name or place; null: the logits, or all"
    )


AUTO_NAMES = "auto"

MODELS = {
    "linear": LinearConfig,
    "mlp": MLPConfig,
    "cnn": CNNConfig,
    "simple_cnn": SimpleCNNConfig,
    "resnet18": ResNet18Config,
    "resnet50": ResNet50Config,
    "unet": UNetConfig,
    "vit": ViTConfig,
    "gpt": GPTConfig,
    "bert": BERTConfig,
    "encoder_decoder": EncoderDecoderConfig,
    "own": OwnConfig,
}
