"""ResNet-18 (He et al. 2015, table 1), with torchvision's names."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax

from flax_impl.layers import TypedModule
from flax_impl.norms import BatchNorm
from pipeline.config.models import ResNet18Config, Stem


class BasicBlock(TypedModule):
    """Two 3×3 convolutions and a shortcut (He et al. 2015, figure 5, left).

    The first convolution has the stride. If that is not 1, or the channels change, the shortcut is a 1×1
    convolution (option B there).
    """

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, inside]` to `[batch, height / stride, width / stride, channels]`."""
        channels, stride = self.channels, self.stride
        options: dict[str, Any] = {"use_bias": False, **self.types}
        norm = partial(BatchNorm, param_dtype=self.param_dtype)
        around = x
        if stride != 1 or x.shape[-1] != channels:
            around = nn.Conv(channels, (1, 1), stride, 0, name="downsample.0", **options)(x)
            around = norm(name="downsample.1")(around, train)
        # Explicit padding: Flax's 'SAME' may pad unevenly, torch's padding does not.
        x = nn.Conv(channels, (3, 3), stride, 1, name="conv1", **options)(x)
        x = nn.relu(norm(name="bn1")(x, train))
        x = nn.Conv(channels, (3, 3), 1, 1, name="conv2", **options)(x)
        return nn.relu(norm(name="bn2")(x, train) + around)


class ResNet18(TypedModule):
    """A stem, four stages of two blocks, global average pooling and a dense layer."""

    config: ResNet18Config
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
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in range(1, 5):
            channels, stride = width * 2 ** (stage - 1), 1 if stage == 1 else 2
            x = BasicBlock(channels, stride, name=f"layer{stage}.0", **self.types)(x, train)
            x = BasicBlock(channels, 1, name=f"layer{stage}.1", **self.types)(x, train)
        return nn.Dense(self.outputs, name="fc", **self.types)(x.mean((1, 2)))
