"""ResNet-18 (He et al. 2015, table 1), with torchvision's names."""

from typing import Any

import flax.linen as nn
import jax

from flax_impl.norms import BatchNorm
from pipeline.config import ResNet18Config, Stem


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a way around them (He et al. 2015, figure 5, left).

    Args:
        channels: that go out.
        stride: of the first convolution. Where it is not 1, or channels change, the way around is a 1×1
            convolution (option B there).
        dtype: of convolutions.
        param_dtype: of parameters.
    """

    channels: int
    stride: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, inside]` to `[batch, height / stride, width / stride, channels]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype, "use_bias": False}
        channels, strides = self.channels, (self.stride, self.stride)

        def norm(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm(param_dtype=self.param_dtype, name=name)(x, train)

        around = x
        if self.stride != 1 or x.shape[-1] != channels:
            around = nn.Conv(channels, (1, 1), strides, 0, name="downsample.0", **types)(x)
            around = norm(around, "downsample.1")
        # Explicit numbers: Flax's 'SAME' pads unevenly where torch's padding does not.
        x = nn.Conv(channels, (3, 3), strides, 1, name="conv1", **types)(x)
        x = nn.relu(norm(x, "bn1"))
        x = nn.Conv(channels, (3, 3), padding=1, name="conv2", **types)(x)
        return nn.relu(norm(x, "bn2") + around)


class ResNet18(nn.Module):
    """A stem, four stages of two blocks, the mean over the image and a dense layer."""

    config: ResNet18Config
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        imagenet = self.config.stem is Stem.imagenet
        size, stride, padding = (7, 2, 3) if imagenet else (3, 1, 1)
        stem = nn.Conv(
            self.config.width,
            (size, size),
            (stride, stride),
            padding,
            use_bias=False,
            name="conv1",
            **types,
        )
        x = nn.relu(BatchNorm(param_dtype=self.param_dtype, name="bn1")(stem(x), train))
        if imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in range(1, 5):
            channels, stride = self.config.width * 2 ** (stage - 1), 1 if stage == 1 else 2
            x = BasicBlock(channels, stride, name=f"layer{stage}.0", **types)(x, train)
            x = BasicBlock(channels, 1, name=f"layer{stage}.1", **types)(x, train)
        return nn.Dense(self.outputs, name="fc", **types)(x.mean((1, 2)))
