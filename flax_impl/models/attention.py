"""Attention of several heads, as vision and language transformers share it."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.randomness import Dropout


class Attention(nn.Module):
    """Scaled dot-product attention with dense layers before and after (Vaswani et al. 2017).

    Args:
        heads: that share the width.
        names: of the layer that makes queries, keys and values (in this order, one after the other),
            of the dropout on the attention, of the layer after it, and of the dropout after that.
        rates: of the two dropouts.
        causal: whether a token sees only itself and those before it.
        bias: whether the layers have one.
        dtype: of products.
        param_dtype: of parameters.
    """

    heads: int
    names: tuple[str, str, str, str]
    rates: tuple[float, float]
    causal: bool = False
    bias: bool = True
    dtype: Any = None
    param_dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`[batch, length, width]` to the same."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype, "use_bias": self.bias}
        packed, drop, out, drop_out = self.names
        batch, length, width = x.shape
        heads = nn.Dense(3 * width, name=packed, **types)(x)
        heads = heads.reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = jnp.transpose(heads, (2, 0, 3, 1, 4))
        weights = Dropout(self.rates[0], name=drop)
        mixed = attend(query, key, value, self.causal, lambda x: weights(x, train))
        mixed = jnp.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width)
        return Dropout(self.rates[1], name=drop_out)(
            nn.Dense(width, name=out, **types)(mixed), train
        )


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, causal: bool, drop: Any
) -> jax.Array:
    """softmax(QKᵀ / √d) V (Vaswani et al. 2017, equation 1), the softmax in float32 at least.

    `jax.nn.dot_product_attention` takes its softmax in float32 at most.

    Args:
        query: `[batch, heads, length, d]`, as are the others and the result.
        key: to compare with.
        value: to mix.
        causal: whether a token sees only itself and those before it.
        drop: of the softmax's numbers.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=wide)
    scores = scores / query.shape[-1] ** 0.5
    if causal:
        length = query.shape[-2]
        seen = jnp.tril(jnp.ones((length, length), bool))
        scores = jnp.where(seen, scores, -jnp.inf)
    return drop(nn.softmax(scores)).astype(value.dtype) @ value
