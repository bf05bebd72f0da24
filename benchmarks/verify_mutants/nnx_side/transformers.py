"""A vision transformer in NNX."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.verify_mutants.linen_side.attention import HEAD, softmax
from benchmarks.verify_mutants.linen_side.layers import activate, stop
from benchmarks.verify_mutants.linen_side.transformers import PATCH, pooled
from benchmarks.verify_mutants.settings import CLASSES, DEPTH, HIDDEN, WIDTH, Plan, Settings


class Attention(nnx.Module):
    """Multi-head attention."""

    def __init__(self, s: Settings, rngs: nnx.Rngs) -> None:
        self.s = s
        for name in ("query", "key", "value", "out"):
            setattr(self, name, nnx.Linear(WIDTH, WIDTH, rngs=rngs))
        self.dropout = nnx.Dropout(s.dropout if "attention" in s.dropouts else 0.0, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, length, width]` to the same."""
        s, shape = self.s, (*x.shape[:2], -1, HEAD)
        q, k, v = (layer(x).reshape(shape) for layer in (self.query, self.key, self.value))
        scale = {"head": HEAD**-0.5, "model": WIDTH**-0.5, "none": 1.0}[s.scale]
        weights = softmax(jnp.einsum("bqhd,bkhd->bhqk", q * scale, k), s)
        weights = self.dropout(stop(weights, "weights", s))
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape))


class Mlp(nnx.Module):
    """Two dense layers with an activation between them."""

    def __init__(self, s: Settings, rngs: nnx.Rngs) -> None:
        self.s = s
        self.Dense_0 = nnx.Linear(WIDTH, HIDDEN, rngs=rngs)
        self.Dense_1 = nnx.Linear(HIDDEN, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[…, width]` to the same."""
        return self.Dense_1(activate(self.Dense_0(x), self.s))


def norm(s: Settings, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Return a layer norm."""
    return nnx.LayerNorm(WIDTH, epsilon=s.epsilon, use_fast_variance=False, rngs=rngs)


class Block(nnx.Module):
    """Attention and a multilayer perceptron, each with a residual connection and a norm."""

    def __init__(self, s: Settings, rngs: nnx.Rngs) -> None:
        self.s = s
        self.ln_attn, self.attention = norm(s, rngs), Attention(s, rngs)
        self.ln_ffn, self.ffn = norm(s, rngs), Mlp(s, rngs)
        self.dropout = nnx.Dropout(s.dropout if "branch" in s.dropouts else 0.0, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[batch, length, width]` to the same."""
        for normed, layer in ((self.ln_attn, self.attention), (self.ln_ffn, self.ffn)):
            y = stop(self.dropout(layer(normed(x))), "branch", self.s)
            x = y if "residual" in self.s.missing else self.s.residual_factor * x + y
        return x


class Vit(nnx.Module):
    """A vision transformer."""

    def __init__(self, plan: Plan) -> None:
        self.s, rngs = plan.whole, nnx.Rngs(0)
        size = (PATCH, PATCH)
        self.patches = nnx.Conv(3, WIDTH, size, size, padding="VALID", rngs=rngs)
        self.token = nnx.Param(jax.random.normal(rngs(), (1, 1, WIDTH)))
        self.place = nnx.Param(jax.random.normal(rngs(), (1, 5, WIDTH)))
        for index in range(DEPTH):
            setattr(self, f"block_{index}", Block(plan.block(index), rngs))
        self.ln_out = norm(self.s, rngs)
        self.classifier = nnx.Linear(WIDTH, CLASSES, rngs=rngs)
        rates = (self.s.dropout if p in self.s.dropouts else 0.0 for p in ("embedding", "head"))
        self.drop_in, self.drop_out = (nnx.Dropout(rate, rngs=rngs) for rate in rates)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[batch, 8, 8, 3]` to logits."""
        x = self.patches(x).reshape(len(x), -1, WIDTH)
        token = jnp.broadcast_to(self.token.get_value(), (len(x), 1, WIDTH))
        x = self.drop_in(jnp.concatenate([token, x], 1) + self.place.get_value())
        for index in range(DEPTH):
            x = getattr(self, f"block_{index}")(x)
        return self.classifier(self.drop_out(pooled(self.ln_out(x), self.s)))
