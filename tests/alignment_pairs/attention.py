"""Attention: heads on an axis of their own, one projection for all, fewer heads of keys."""

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

from alignment_pairs.pair import Pair, function

WIDTH, HEADS, SIZE = 12, 3, 4
TOKENS = (2, 5, WIDTH)


class Library(nn.Module):
    """Attention of torch's library between two norms."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        y = self.norm1(x)
        return self.norm2(x + self.attention(y, y, y, need_weights=False)[0])


class Linen(fnn.Module):
    """The same of linen."""

    @fnn.compact
    def __call__(self, x):
        y = fnn.LayerNorm(epsilon=1e-5)(x)
        y = fnn.MultiHeadDotProductAttention(HEADS)(y, y)
        return fnn.LayerNorm(epsilon=1e-5)(x + y)


class Nnx(nnx.Module):
    """The same of NNX."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.b = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.c = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.a = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)

    def __call__(self, x):
        return self.b(x + self.c(self.a(x)))


def normed(x, scale, shift):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + shift


def fused_heads(p, x):
    """One projection `[width, heads, 3, size]` by einsum, and an output that sums over heads."""
    y = normed(x, p["a"], p["b"])
    q, k, v = jnp.moveaxis(jnp.einsum("bld,dhpk->blhpk", y, p["w"]) + p["c"], 3, 0)
    scores = jax.nn.softmax(jnp.einsum("blhk,bmhk->bhlm", q, k) / SIZE**0.5, -1)
    y = jnp.einsum("bhlm,bmhk->blhk", scores, v)
    return normed(x + jnp.einsum("blhk,hkd->bld", y, p["o"]) + p["d"], p["e"], p["f"])


NORMS = {"a": (WIDTH,), "b": (WIDTH,), "e": (WIDTH,), "f": (WIDTH,), "d": (WIDTH,)}


class Grouped(nn.Module):
    """Fewer heads of keys and values than of queries, in twelve layers without biases."""

    depth, kv_heads = 6, 1

    def __init__(self):
        super().__init__()
        kv = SIZE * self.kv_heads
        sizes = [("v", kv), ("q", WIDTH), ("o", WIDTH), ("k", kv)]
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(WIDTH, size, bias=False) for name, size in sizes})
            for _ in range(self.depth)
        )

    def forward(self, x):
        for layer in self.layers:
            q = layer["q"](x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2)
            k, v = layer["k"](x)[:, None], layer["v"](x)[:, None]
            y = torch.softmax(q @ k.mT / SIZE**0.5, -1) @ v
            x = x + layer["o"](y.transpose(1, 2).flatten(2))
        return x


def grouped(p, x):
    """The same with all projections of a layer in one, names of one letter, and stacked outputs."""
    for at in range(Grouped.depth):
        projected = x @ p["abcdef"[at]]
        k, q, v = jnp.split(projected, (SIZE, SIZE + WIDTH), -1)
        q = q.reshape(*q.shape[:2], HEADS, SIZE)
        scores = jax.nn.softmax(jnp.einsum("blhk,bmk->bhlm", q, k) / SIZE**0.5, -1)
        y = jnp.einsum("bhlm,bmk->blhk", scores, v)
        x = x + jnp.einsum("blhk,hkd->bld", y, p["o"][at])
    return x


PAIRS = {
    "attention of torch and linen": Pair(Library, Linen, TOKENS),
    "attention of NNX": Pair(Library, Nnx, TOKENS),
    "projections in one einsum, heads first": Pair(
        Library,
        function(
            fused_heads,
            w=(WIDTH, HEADS, 3, SIZE),
            c=(HEADS, 3, SIZE),
            o=(HEADS, SIZE, WIDTH),
            **NORMS,
        ),
        TOKENS,
    ),
    "one head of keys, and names of one letter": Pair(
        Grouped,
        function(
            grouped, o=(6, HEADS, SIZE, WIDTH), **{a: (WIDTH, WIDTH + 2 * SIZE) for a in "fedcba"}
        ),
        TOKENS,
    ),
}
