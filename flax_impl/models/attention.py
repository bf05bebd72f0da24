"""Multi-head attention, shared by vision and language transformers."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.layers import TypedModule
from flax_impl.randomness import Dropout


class Attention(TypedModule):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017).

    `names` are the module names of the query-key-value layer (one matrix, in this order), the attention
    dropout, the output layer and the output dropout; `rates` are those of the two dropouts. With `causal` a
    token attends only to itself and earlier ones.
    """

    heads: int
    names: tuple[str, str, str, str]
    rates: tuple[float, float]
    causal: bool = False
    bias: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, seen: jax.Array | None = None
    ) -> jax.Array:
        """`[batch, length, width]` to the same; `seen`, as in `attend`, leaves tokens out."""
        packed, drop, out, drop_out = self.names
        batch, length, width = x.shape
        heads = nn.Dense(3 * width, self.bias, name=packed, **self.types)(x)
        heads = heads.reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = jnp.transpose(heads, (2, 0, 3, 1, 4))
        drop_weights = partial(Dropout(self.rates[0], name=drop), train=train)
        mixed = attend(query, key, value, self.causal, seen, drop_weights)
        mixed = jnp.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width)
        x = nn.Dense(width, self.bias, name=out, **self.types)(mixed)
        return Dropout(self.rates[1], name=drop_out)(x, train)


class CrossAttention(TypedModule):
    """Attention of one sequence to another, with the names of Hugging Face's GPT-2."""

    heads: int
    dropout: float
    bias: bool = True

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        train: bool = False,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """`[batch, length, width]` to the same; `memory` `[batch, other length, width]` is attended to."""
        batch, length, width = x.shape
        query = nn.Dense(width, self.bias, name="q_attn", **self.types)(x)
        query = jnp.transpose(query.reshape(batch, length, self.heads, -1), (0, 2, 1, 3))
        packed = nn.Dense(2 * width, self.bias, name="c_attn", **self.types)(memory)
        packed = packed.reshape(batch, memory.shape[1], 2, self.heads, -1)
        key, value = jnp.transpose(packed, (2, 0, 3, 1, 4))
        drop_weights = partial(Dropout(self.dropout, name="attn_dropout"), train=train)
        mixed = attend(query, key, value, False, seen, drop_weights)
        mixed = jnp.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width)
        x = nn.Dense(width, self.bias, name="c_proj", **self.types)(mixed)
        return Dropout(self.dropout, name="resid_dropout")(x, train)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    causal: bool,
    seen: jax.Array | None,
    drop: Callable,
) -> jax.Array:
    """softmax(QKᵀ / √d) V (Vaswani et al. 2017, equation 1), the softmax in float32 at least.

    Query, key, value and result are `[batch, heads, length, d]`. With `causal` a token attends only to itself
    and earlier ones; `seen` `[batch, 1, 1, length of keys]` is false for keys that none attends to; `drop` is
    applied to the softmax. `jax.nn.dot_product_attention` computes its softmax in float32 at most.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=wide)
    scores = scores / query.shape[-1] ** 0.5
    if causal:
        length = query.shape[-2]
        seen = jnp.tril(jnp.ones((length, length), bool))
    if seen is not None:
        scores = jnp.where(seen, scores, -jnp.inf)
    return drop(nn.softmax(scores)).astype(value.dtype) @ value
