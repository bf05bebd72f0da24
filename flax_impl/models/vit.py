"""The vision transformer (Dosovitskiy et al. 2021), with timm's names."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.layers import ACTIVATIONS
from flax_impl.models.attention import Attention
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout, DropPath
from pipeline.config import Activation, Pool, ViTConfig
from pipeline.models import drop_path_rates, feature_map

# Dropout follows every dense layer but the one before the attention (Dosovitskiy et al. 2021, B.1).
ATTENTION = ("qkv", "attn_drop", "proj", "proj_drop")


class PatchEmbed(nn.Module):
    """One vector for each patch of an image: a convolution whose stride is its size."""

    config: ViTConfig
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, patches, width]`, row by row."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        sides, width = (self.config.patch, self.config.patch), self.config.width
        return nn.Conv(width, sides, sides, 0, name="proj", **types)(x).reshape(len(x), -1, width)


class MLP(nn.Module):
    """Two dense layers on every token by itself, four times as wide between them."""

    config: ViTConfig
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width, rate = self.config.width, self.config.dropout
        x = ACTIVATIONS[Activation.gelu](nn.Dense(4 * width, name="fc1", **types)(x))
        x = Dropout(rate, name="drop1")(x, train)
        return Dropout(rate, name="drop2")(nn.Dense(width, name="fc2", **types)(x), train)


class Block(nn.Module):
    """Attention and MLP, each normalised before and with a way around it.

    Args:
        config: of the model.
        drop_path: share of the samples that skip a layer.
        dtype: of products.
        param_dtype: of parameters.
    """

    config: ViTConfig
    drop_path: float
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}

        def norm(x: jax.Array, name: str) -> jax.Array:
            return LayerNorm(config.norm_epsilon, self.param_dtype, name=name)(x)

        attention = Attention(config.heads, ATTENTION, (0.0, config.dropout), name="attn", **types)
        y = attention(norm(x, "norm1"), train)
        x = x + DropPath(self.drop_path, name="drop_path1")(y, train)
        y = MLP(config, name="mlp", **types)(norm(x, "norm2"), train)
        return x + DropPath(self.drop_path, name="drop_path2")(y, train)


class ViT(nn.Module):
    """Patches as tokens, learned positions, blocks, and a dense layer on the class token or the mean.

    With the mean there is no class token: timm's `class_token=False, global_pool="avg", fc_norm=False`.
    """

    config: ViTConfig
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        rows, columns = feature_map(config, self.input_shape)
        token, zeros = config.pool is Pool.token, nn.initializers.zeros
        x = PatchEmbed(config, name="patch_embed", **types)(x)
        if token:
            first = self.param("cls_token", zeros, (1, 1, config.width), self.param_dtype)
            first = jnp.broadcast_to(first, (len(x), 1, config.width))
            x = jnp.concatenate([first, x], axis=1)
        shape = (1, token + rows * columns, config.width)
        x = x + self.param("pos_embed", zeros, shape, self.param_dtype)
        x = Dropout(config.dropout, name="pos_drop")(x, train)
        for index, rate in enumerate(drop_path_rates(config)):
            x = Block(config, rate, name=f"blocks.{index}", **types)(x, train)
        x = LayerNorm(config.norm_epsilon, self.param_dtype, name="norm")(x)
        return nn.Dense(self.outputs, name="head", **types)(x[:, 0] if token else x.mean(1))
