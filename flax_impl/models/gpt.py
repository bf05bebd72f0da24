"""GPT-2 (Radford et al. 2019), with nanoGPT's names."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from flax_impl.layers import ACTIVATIONS
from flax_impl.models.attention import Attention
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout
from pipeline.config import Activation, GPTConfig

ATTENTION = ("c_attn", "attn_dropout", "c_proj", "resid_dropout")


class MLP(nn.Module):
    """Two dense layers on every token by itself, four times as wide between them."""

    config: GPTConfig
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.Dense(4 * config.width, config.bias, name="c_fc", **types)(x)
        x = ACTIVATIONS[Activation.gelu_tanh](x)
        x = nn.Dense(config.width, config.bias, name="c_proj", **types)(x)
        return Dropout(config.dropout, name="dropout")(x, train)


class Block(nn.Module):
    """Causal attention and MLP, each normalised before and with a way around it."""

    config: GPTConfig
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        rates = (config.dropout, config.dropout)

        def norm(x: jax.Array, name: str) -> jax.Array:
            return LayerNorm(config.norm_epsilon, self.param_dtype, name=name)(x)

        attention = Attention(
            config.heads, ATTENTION, rates, True, config.bias, name="attn", **types
        )
        x = x + attention(norm(x, "ln_1"), train)
        return x + MLP(config, name="mlp", **types)(norm(x, "ln_2"), train)


class GPT(nn.Module):
    """Tokens, learned positions, blocks, and the table of tokens again as the output layer."""

    config: GPTConfig
    input_shape: tuple[int, ...]
    outputs: int
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """Tokens `[batch, length]` to the logits of those that follow `[batch, length, outputs]`."""
        config, types = self.config, {"dtype": self.dtype, "param_dtype": self.param_dtype}
        length = config.max_length or self.input_shape[0]
        # What blocks add to keeps the parameters' type, as torch's autocast leaves it.
        exact = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        wte = nn.Embed(self.outputs, config.width, name="wte", **exact)
        wpe = nn.Embed(length, config.width, name="wpe", **exact)
        x = wte(tokens) + wpe(jnp.arange(tokens.shape[1]))
        x = Dropout(config.dropout, name="drop")(x, train)
        for index in range(config.depth):
            x = Block(config, name=f"h.{index}", **types)(x, train)
        x = LayerNorm(config.norm_epsilon, self.param_dtype, name="ln_f")(x)
        x, table = promote_dtype(x, wte.embedding, dtype=self.dtype)
        return x @ table.T
