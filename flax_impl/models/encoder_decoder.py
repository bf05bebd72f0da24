"""An encoder–decoder transformer (Vaswani et al. 2017) with GPT-2's blocks, and nanoGPT's names."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from flax_impl.layers import PositionEmbed, TypedModule
from flax_impl.models.transformer import Block
from flax_impl.norms import LayerNorm
from flax_impl.randomness import Dropout
from pipeline.config.models import EncoderDecoderConfig
from pipeline.tasks.seq2seq import PADDING


class EncoderDecoder(TypedModule):
    """Blocks that read a source in both directions, and causal blocks that write a target and attend to it.

    Both sides and the output layer share the embeddings of tokens, both sides those of positions.
    """

    config: EncoderDecoderConfig
    input_shape: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, source: jax.Array, target: jax.Array, train: bool = False) -> jax.Array:
        """Tokens `[batch, length]` and `[batch, length of target]` to logits.

        They are those of the tokens that follow in the target `[batch, length of target, outputs]`. The
        padding of a source is left out, unless it is nothing else.
        """
        config, types = self.config, self.types
        # The residual stream keeps the parameters' dtype, as under torch's autocast.
        exact = {"dtype": self.param_dtype, "param_dtype": self.param_dtype}
        wte = nn.Embed(self.outputs, config.width, name="wte", **exact)
        length = config.max_length or self.input_shape[0]
        wpe = PositionEmbed(length, config.width, name="wpe", **exact)
        norm = partial(LayerNorm, epsilon=config.norm_epsilon, param_dtype=self.param_dtype)

        def embed(tokens: jax.Array) -> jax.Array:
            return wte(tokens) + wpe(jnp.arange(tokens.shape[1]))

        seen = source != PADDING
        seen = (seen | ~seen.any(axis=-1, keepdims=True))[:, None, None]
        memory = Dropout(config.dropout, name="encoder_drop")(embed(source), train)
        for index in range(config.depth):
            block = Block(config, causal=False, name=f"encoder.{index}", **types)
            memory = block(memory, train, seen)
        memory = norm(name="encoder_norm")(memory)
        x = Dropout(config.dropout, name="decoder_drop")(embed(target), train)
        for index in range(config.depth):
            block = Block(config, causal=True, cross=True, name=f"decoder.{index}", **types)
            x = block(x, train, seen, memory)
        x, weight = promote_dtype(norm(name="decoder_norm")(x), wte.embedding, dtype=self.dtype)
        return x @ weight.T
