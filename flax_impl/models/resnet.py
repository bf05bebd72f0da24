"""Residual networks (He et al. 2015, table 1), with torchvision's names."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from flax_impl.layers import TypedModule, max_pool
from flax_impl.norms import BatchNorm
from pipeline.config.models import ResNetConfig, Stem


class BasicBlock(TypedModule):
    """Two 3×3 convolutions and a shortcut (He et al. 2015, figure 5, left).

    The first convolution has the stride.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, inside]` to `[batch, height / stride, width / stride, channels]`."""
        channels, stride = self.channels, self.stride
        norm = partial(BatchNorm, param_dtype=self.param_dtype)
        around = _shortcut(self, x, channels, stride, train)
        options: dict[str, Any] = {"use_bias": False, **self.types}
        # Explicit padding: Flax's 'SAME' may pad unevenly, torch's padding does not.
        x = nn.Conv(channels, (3, 3), stride, 1, name="conv1", **options)(x)
        x = nn.relu(norm(name="bn1")(x, train))
        x = nn.Conv(channels, (3, 3), 1, 1, name="conv2", **options)(x)
        return nn.relu(norm(name="bn2")(x, train) + around)


class Bottleneck(TypedModule):
    """A 3×3 convolution between two of 1×1, and a shortcut (He et al. 2015, figure 5, right).

    The 3×3 convolution has the stride, as in torchvision; in the paper the first has it.
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, inside]` to `[batch, height / stride, width / stride, 4·channels]`."""
        channels, stride, out = self.channels, self.stride, 4 * self.channels
        norm = partial(BatchNorm, param_dtype=self.param_dtype)
        around = _shortcut(self, x, out, stride, train)
        options: dict[str, Any] = {"use_bias": False, **self.types}
        x = nn.Conv(channels, (1, 1), 1, 0, name="conv1", **options)(x)
        x = nn.relu(norm(name="bn1")(x, train))
        x = nn.Conv(channels, (3, 3), stride, 1, name="conv2", **options)(x)
        x = nn.relu(norm(name="bn2")(x, train))
        x = nn.Conv(out, (1, 1), 1, 0, name="conv3", **options)(x)
        return nn.relu(norm(name="bn3")(x, train) + around)


def _shortcut(
    block: TypedModule, x: jax.Array, channels: int, stride: int, train: bool
) -> jax.Array:
    """Return `x`, or a 1×1 convolution of it (option B of He et al. 2015)."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    convolution = nn.Conv(
        channels, (1, 1), stride, 0, use_bias=False, name="downsample.0", **block.types
    )
    norm = BatchNorm(param_dtype=block.param_dtype, name="downsample.1")
    return norm(convolution(x), train)


# Block, and number of blocks in each stage.
STAGES: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(TypedModule):
    """A stem, four stages of blocks, global average pooling and a dense layer."""

    config: ResNetConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        width, imagenet = self.config.width, self.config.stem is Stem.imagenet
        size, stride, padding = (7, 2, 3) if imagenet else (3, 1, 1)
        stem = nn.Conv(
            width, (size, size), stride, padding, use_bias=False, name="conv1", **self.types
        )
        x = nn.relu(BatchNorm(param_dtype=self.param_dtype, name="bn1")(stem(x), train))
        if imagenet:
            x = max_pool(x, 3, 2, 1)
        block, counts = STAGES[self.config.name]
        for stage, count in enumerate(counts):
            for index in range(count):
                channels, stride = width * 2**stage, 2 if stage and not index else 1
                name = f"layer{stage + 1}.{index}"
                x = block(channels, stride, name=name, **self.types)(x, train)
        return nn.Dense(self.outputs, name="fc", **self.types)(x.mean((1, 2)))
