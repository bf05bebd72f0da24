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
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        packed, drop, out, drop_out = self.names
        batch, length, width = x.shape
        heads = nn.Dense(3 * width, self.bias, name=packed, **self.types)(x)
        heads = heads.reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = jnp.transpose(heads, (2, 0, 3, 1, 4))
        drop_weights = partial(Dropout(self.rates[0], name=drop), train=train)
        mixed = attend(query, key, value, self.causal, drop_weights)
        mixed = jnp.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width)
        x = nn.Dense(width, self.bias, name=out, **self.types)(mixed)
        return Dropout(self.rates[1], name=drop_out)(x, train)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, causal: bool, drop: Callable
) -> jax.Array:
    """softmax(QKᵀ / √d) V (Vaswani et al. 2017, equation 1), the softmax in float32 at least.

    Query, key, value and result are `[batch, heads, length, d]`. With `causal` a token attends only to itself
    and earlier ones; `drop` is applied to the softmax. `jax.nn.dot_product_attention` computes its softmax in
    float32 at most.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=wide)
    scores = scores / query.shape[-1] ** 0.5
    if causal:
        length = query.shape[-2]
        seen = jnp.tril(jnp.ones((length, length), bool))
        scores = jnp.where(seen, scores, -jnp.inf)
    return drop(nn.softmax(scores)).astype(value.dtype) @ value
