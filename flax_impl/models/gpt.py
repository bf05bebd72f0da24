"""GPT-2 (Radford et al. 2019), with nanoGPT's names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from flax_impl.layers import PositionEmbed, TypedModule
from flax_impl.models.transformer import Block
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout
from pipeline.config.models import GPTConfig


class GPT(TypedModule):
    """Token and learned position embeddings, blocks, and an output layer tied to the token embedding."""

    config: GPTConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """Tokens `[batch, length]` to the logits of the next tokens `[batch, length, outputs]`."""
        config, types = self.config, self.types
        length = config.max_length or self.input_shape[0]
        # The residual stream keeps the parameters' dtype, as under torch's autocast.
        exact = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        wte = nn.Embed(self.outputs, config.width, name="wte", **exact)
        wpe = PositionEmbed(length, config.width, name="wpe", **exact)
        x = wte(tokens) + wpe(jnp.arange(tokens.shape[1]))
        x = Dropout(config.dropout, name="drop")(x, train)
        for index in range(config.depth):
            x = Block(config, causal=True, name=f"h.{index}", **types)(x, train)
        x = LayerNorm(epsilon=config.norm_epsilon, param_dtype=self.param_dtype, name="ln_f")(x)
        x, table = promote_dtype(x, wte.embedding, dtype=self.dtype)
        return x @ table.T
