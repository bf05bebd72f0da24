"""BERT (Devlin et al. 2018) with its head for hidden tokens, with nanoGPT's names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from flax_impl.layers import ACTIVATIONS, PositionEmbed, TypedModule
from flax_impl.models.transformer import Block
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout
from pipeline.config.models import BERTConfig


class Head(TypedModule):
    """A dense layer, a norm, and an output layer tied to the token embedding, with a bias."""

    config: BERTConfig
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
        """`[batch, length, width]` and the table of embeddings to `[batch, length, outputs]`."""
        config = self.config
        x = nn.Dense(config.width, name="dense", **self.types)(x)
        x = ACTIVATIONS[config.activation](x)
        x = LayerNorm(epsilon=config.norm_epsilon, param_dtype=self.param_dtype, name="norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,), self.param_dtype)
        x, table, bias = promote_dtype(x, table, bias, dtype=self.dtype)
        return x @ table.T + bias


class BERT(TypedModule):
    """Token and learned position embeddings, blocks that attend in both directions, and a head.

    Without the embeddings of two segments.
    """

    config: BERTConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """Tokens `[batch, length]` to the logits of the tokens there `[batch, length, outputs]`."""
        config, types = self.config, self.types
        # The residual stream keeps the parameters' dtype, as under torch's autocast.
        exact = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        wte = nn.Embed(self.outputs, config.width, name="wte", **exact)
        length = config.max_length or self.input_shape[0]
        wpe = PositionEmbed(length, config.width, name="wpe", **exact)
        x = wte(tokens) + wpe(jnp.arange(tokens.shape[1]))
        x = LayerNorm(epsilon=config.norm_epsilon, param_dtype=self.param_dtype, name="ln_e")(x)
        x = Dropout(config.dropout, name="drop")(x, train)
        for index in range(config.depth):
            block = Block(config, causal=False, norm_first=False, name=f"h.{index}", **types)
            x = block(x, train)
        return Head(config, self.outputs, name="head", **types)(x, wte.embedding)
