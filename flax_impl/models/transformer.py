"""Blocks of language transformers, with nanoGPT's names."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from flax_impl.layers import ACTIVATIONS, TypedModule, computed_once
from flax_impl.models.attention import Attention, CrossAttention
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout
from pipeline.config.models import TokenConfig

ATTENTION = ("c_attn", "attn_dropout", "c_proj", "resid_dropout")


class MLP(TypedModule):
    """Two dense layers on each token, with a hidden layer four times as wide."""

    config: TokenConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        config, types = self.config, self.types
        x = nn.Dense(4 * config.width, config.bias, name="c_fc", **types)(x)
        x = ACTIVATIONS[config.activation](x)
        x = nn.Dense(config.width, config.bias, name="c_proj", **types)(x)
        return Dropout(config.dropout, name="dropout")(x, train)


class Block(TypedModule):
    """Attention and MLP, each with a residual connection; see `residual` for `norm_first`.

    With `causal` a token attends only to itself and earlier ones. With `cross` another attention comes
    between, to a sequence of an encoder.
    """

    config: TokenConfig
    causal: bool
    norm_first: bool = True
    cross: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        seen: jax.Array | None = None,
        memory: jax.Array | None = None,
    ) -> jax.Array:
        """`[batch, length, width]` to the same.

        `memory` `[batch, other length, width]` is the sequence of the encoder, and `seen` tells which tokens
        of it (without one, of `x` itself) may be attended to, as in `attend`.
        """
        config, types, norm_first = self.config, self.types, self.norm_first
        rates = (config.dropout, config.dropout)
        norm = partial(LayerNorm, epsilon=config.norm_epsilon, param_dtype=self.param_dtype)
        attention = Attention(
            config.heads,
            ATTENTION,
            rates,
            self.causal,
            config.bias,
            config.attention,
            name="attn",
            **types,
        )
        own = None if self.cross else seen
        x = residual(norm_first, norm(name="ln_1"), attention, x, train, own)
        if self.cross:
            attention = CrossAttention(
                config.heads,
                config.dropout,
                config.bias,
                config.attention,
                name="crossattention",
                **types,
            )
            other = norm(name="ln_cross_attn")
            x = residual(norm_first, other, attention, x, memory, train, seen)
        mlp = MLP(config, name="mlp", **types)
        return residual(norm_first, norm(name="ln_2"), mlp, x, train)


def residual(
    norm_first: bool,
    norm: Callable,
    layer: Callable,
    x: jax.Array,
    *others: jax.Array | bool | None,
) -> jax.Array:
    """Add a layer to `x`, with a norm before the layer as in GPT-2, or after the sum as in BERT."""
    if norm_first:
        return computed_once(x + layer(norm(x), *others))
    return norm(computed_once(x + layer(x, *others)))
