"""A vision transformer in Equinox: of one image."""

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.verify_mutants.linen_side.attention import HEAD, softmax
from benchmarks.verify_mutants.linen_side.layers import activate, stop
from benchmarks.verify_mutants.linen_side.transformers import PATCH, pooled
from benchmarks.verify_mutants.settings import CLASSES, DEPTH, HIDDEN, WIDTH, Plan, Settings


class Attention(eqx.Module):
    """Multi-head attention."""

    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    out: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    s: Settings = eqx.field(static=True)

    def __init__(self, s: Settings, key: jax.Array) -> None:
        self.s, keys = s, jax.random.split(key, 4)
        self.query, self.key, self.value, self.out = (
            eqx.nn.Linear(WIDTH, WIDTH, key=one) for one in keys
        )
        self.dropout = eqx.nn.Dropout(s.dropout if "attention" in s.dropouts else 0.0)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """`[length, width]` to the same."""
        s, shape = self.s, (len(x), -1, HEAD)
        q, k, v = (jax.vmap(f)(x).reshape(shape) for f in (self.query, self.key, self.value))
        scale = {"head": HEAD**-0.5, "model": WIDTH**-0.5, "none": 1.0}[s.scale]
        weights = softmax(jnp.einsum("qhd,khd->hqk", q * scale, k), s)
        weights = self.dropout(stop(weights, "weights", s), key=key)
        return jax.vmap(self.out)(jnp.einsum("hqk,khd->qhd", weights, v).reshape(x.shape))


class Mlp(eqx.Module):
    """Two dense layers with an activation between them, of one token."""

    Dense_0: eqx.nn.Linear
    Dense_1: eqx.nn.Linear
    s: Settings = eqx.field(static=True)

    def __init__(self, s: Settings, key: jax.Array) -> None:
        self.s, keys = s, jax.random.split(key)
        self.Dense_0 = eqx.nn.Linear(WIDTH, HIDDEN, key=keys[0])
        self.Dense_1 = eqx.nn.Linear(HIDDEN, WIDTH, key=keys[1])

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[width]` to the same."""
        return self.Dense_1(activate(self.Dense_0(x), self.s))


class Block(eqx.Module):
    """Attention and a multilayer perceptron, each with a residual connection and a norm."""

    ln_attn: eqx.nn.LayerNorm
    attention: Attention
    ln_ffn: eqx.nn.LayerNorm
    ffn: Mlp
    dropout: eqx.nn.Dropout
    s: Settings = eqx.field(static=True)

    def __init__(self, s: Settings, key: jax.Array) -> None:
        self.s, keys = s, jax.random.split(key)
        self.ln_attn, self.ln_ffn = (eqx.nn.LayerNorm(WIDTH, s.epsilon) for _ in range(2))
        self.attention, self.ffn = Attention(s, keys[0]), Mlp(s, keys[1])
        self.dropout = eqx.nn.Dropout(s.dropout if "branch" in s.dropouts else 0.0)

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        """`[length, width]` to the same."""
        keys = jax.random.split(key, 3)
        x = self._sum(x, self.attention(jax.vmap(self.ln_attn)(x), keys[0]), keys[1])
        return self._sum(x, jax.vmap(self.ffn)(jax.vmap(self.ln_ffn)(x)), keys[2])

    def _sum(self, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
        y = stop(self.dropout(y, key=key), "branch", self.s)
        return y if "residual" in self.s.missing else self.s.residual_factor * x + y


class Vit(eqx.Module):
    """A vision transformer."""

    patches: eqx.nn.Conv2d
    token: jax.Array
    place: jax.Array
    blocks: list[Block]
    ln_out: eqx.nn.LayerNorm
    classifier: eqx.nn.Linear
    drop_in: eqx.nn.Dropout
    drop_out: eqx.nn.Dropout
    s: Settings = eqx.field(static=True)

    def __init__(self, plan: Plan) -> None:
        self.s, keys = plan.whole, jax.random.split(jax.random.key(0), 4 + DEPTH)
        self.patches = eqx.nn.Conv2d(3, WIDTH, PATCH, PATCH, key=keys[0])
        self.token = jax.random.normal(keys[1], (1, WIDTH))
        self.place = jax.random.normal(keys[2], (5, WIDTH))
        self.blocks = [Block(plan.block(i), keys[4 + i]) for i in range(DEPTH)]
        self.ln_out = eqx.nn.LayerNorm(WIDTH, self.s.epsilon)
        self.classifier = eqx.nn.Linear(WIDTH, CLASSES, key=keys[3])
        self.drop_in, self.drop_out = (
            eqx.nn.Dropout(self.s.dropout if place in self.s.dropouts else 0.0)
            for place in ("embedding", "head")
        )

    def __call__(self, x: jax.Array, *, key: jax.Array) -> jax.Array:
        """An image `[3, 8, 8]` to logits."""
        keys = jax.random.split(key, 2 + DEPTH)
        x = jnp.concatenate([self.token, self.patches(x).reshape(WIDTH, -1).T]) + self.place
        x = self.drop_in(x, key=keys[0])
        for block, one in zip(self.blocks, keys[2:], strict=True):
            x = block(x, one)
        y = pooled(jax.vmap(self.ln_out)(x)[None], self.s)[0]
        return self.classifier(self.drop_out(y, key=keys[1]))
