"""The vision transformer (Dosovitskiy et al. 2021), with timm's names."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.layers import ACTIVATIONS, TypedModule, computed_once
from flax_impl.models.attention import Attention
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout, DropPath
from pipeline.config.models import Activation, Pool, ViTConfig
from pipeline.training.model_checks import drop_path_rates, feature_map

# Dropout follows every dense layer but the query-key-value one (Dosovitskiy et al. 2021, B.1).
ATTENTION = ("qkv", "attn_drop", "proj", "proj_drop")


class PatchEmbed(TypedModule):
    """Embedding of image patches: a convolution whose stride is its size."""

    config: ViTConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, patches, width]`, row by row."""
        width, side = self.config.width, self.config.patch
        x = nn.Conv(width, (side, side), side, 0, name="proj", **self.types)(x)
        return x.reshape(len(x), -1, width)


class MLP(TypedModule):
    """Two dense layers on each token, with a hidden layer four times as wide."""

    config: ViTConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        width, rate = self.config.width, self.config.dropout
        x = ACTIVATIONS[Activation.gelu](nn.Dense(4 * width, name="fc1", **self.types)(x))
        x = Dropout(rate, name="drop1")(x, train)
        return Dropout(rate, name="drop2")(nn.Dense(width, name="fc2", **self.types)(x), train)


class Block(TypedModule):
    """Attention and MLP, each with pre-normalisation and a residual connection.

    `drop_path` is the probability that a sample skips a layer.
    """

    config: ViTConfig
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        config, types = self.config, self.types
        norm = partial(LayerNorm, epsilon=config.norm_epsilon, param_dtype=self.param_dtype)
        attention = Attention(
            config.heads,
            ATTENTION,
            (0.0, config.dropout),
            kernel=config.attention,
            name="attn",
            **types,
        )
        y = attention(norm(name="norm1")(x), train)
        x = computed_once(x + DropPath(self.drop_path, name="drop_path1")(y, train))
        y = MLP(config, name="mlp", **types)(norm(name="norm2")(x), train)
        return computed_once(x + DropPath(self.drop_path, name="drop_path2")(y, train))


class ViT(TypedModule):
    """Patch and learned position embeddings, blocks, and a dense layer on the class token or the mean.

    With the mean there is no class token: timm's `class_token=False, global_pool="avg", fc_norm=False`.
    """

    config: ViTConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, height, width, channels]` to `[batch, outputs]`."""
        config, types = self.config, self.types
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
        x = LayerNorm(epsilon=config.norm_epsilon, param_dtype=self.param_dtype, name="norm")(x)
        return nn.Dense(self.outputs, name="head", **types)(x[:, 0] if token else x.mean(1))
