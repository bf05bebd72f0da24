"""The models in Equinox: one sample at a time, channels first, keys and state by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import nn

from verify_models import (
    DEPTH,
    DROPOUT,
    EPSILON,
    HEADS,
    HIDDEN,
    LATE_DROPOUT,
    LENGTH,
    MOMENTUM,
    OUTPUTS,
    PATCH,
    SIZE,
    VOCABULARY,
    WIDTH,
)  # fmt: skip


class CNN(eqx.Module):
    convs: list[nn.Conv2d]
    norms: list[nn.BatchNorm]
    pool: nn.MaxPool2d
    dropout: nn.Dropout
    head: nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.convs = [
            nn.Conv2d(3, 4, 3, padding=1, key=keys[0]),
            nn.Conv2d(4, 6, 3, stride=2, padding=1, use_bias=False, key=keys[1]),
        ]
        self.norms = [
            nn.BatchNorm(size, "batch", EPSILON, momentum=MOMENTUM, mode="batch") for size in (4, 6)
        ]
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout = nn.Dropout(LATE_DROPOUT)
        self.head = nn.Linear(6 * (SIZE // 4) ** 2, OUTPUTS, key=keys[2])

    def __call__(
        self, x: jax.Array, state: nn.State, *, key: jax.Array | None = None
    ) -> tuple[jax.Array, nn.State]:
        x, state = self.norms[0](self.convs[0](x), state)
        x, state = self.norms[1](self.convs[1](self.pool(jax.nn.relu(x))), state)
        return self.head(self.dropout(jax.nn.relu(x).ravel(), key=key)), state


class Block(eqx.Module):
    attention: nn.MultiheadAttention
    norms: tuple[nn.LayerNorm, nn.LayerNorm]
    mlp: dict[str, nn.Linear]
    dropout: nn.Dropout

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        biases = dict.fromkeys(
            ("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), True
        )
        self.attention = nn.MultiheadAttention(HEADS, WIDTH, **biases, key=keys[0])
        self.norms = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)
        self.mlp = {
            "up": nn.Linear(WIDTH, HIDDEN, key=keys[1]),
            "down": nn.Linear(HIDDEN, WIDTH, key=keys[2]),
        }
        self.dropout = nn.Dropout(DROPOUT)

    def __call__(self, x: jax.Array, mask: jax.Array | None, key: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        y = jax.vmap(self.norms[0])(x)
        x = x + self.dropout(self.attention(y, y, y, mask), key=first)
        y = jax.nn.gelu(jax.vmap(self.mlp["up"])(jax.vmap(self.norms[1])(x)), approximate=False)
        return x + self.dropout(jax.vmap(self.mlp["down"])(y), key=second)


class ViT(eqx.Module):
    embed: nn.Conv2d
    cls: jax.Array
    positions: jax.Array
    blocks: list[Block]
    norm: nn.LayerNorm
    head: nn.Linear

    def __init__(self, depth: int, key: jax.Array) -> None:
        keys = jax.random.split(key, depth + 4)
        self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH, key=keys[0])
        self.cls = jax.random.normal(keys[1], (1, WIDTH))
        self.positions = jax.random.normal(keys[2], ((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.head = nn.Linear(WIDTH, OUTPUTS, key=keys[3])
        self.blocks = [Block(key) for key in keys[4:]]
        self.norm = nn.LayerNorm(WIDTH, EPSILON)

    def __call__(self, x: jax.Array, *, key: jax.Array) -> jax.Array:
        x = jnp.concatenate([self.cls, self.embed(x).reshape(WIDTH, -1).T]) + self.positions
        for block, key_ in zip(self.blocks, jax.random.split(key, len(self.blocks)), strict=True):
            x = block(x, None, key_)
        return self.head(self.norm(x[0]))


class GPT(eqx.Module):
    """With one table for tokens and head, shared as Equinox shares."""

    shared: nn.Shared
    positions: nn.Embedding
    blocks: list[Block]
    norm: nn.LayerNorm

    def __init__(self, depth: int, key: jax.Array) -> None:
        keys = jax.random.split(key, depth + 3)
        embed = nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
        head = nn.Linear(WIDTH, VOCABULARY, use_bias=False, key=keys[1])
        self.shared = nn.Shared(
            (embed, head), where=lambda pair: pair[1].weight, get=lambda pair: pair[0].weight
        )
        self.positions = nn.Embedding(LENGTH, WIDTH, key=keys[2])
        self.blocks = [Block(key) for key in keys[3:]]
        self.norm = nn.LayerNorm(WIDTH, EPSILON)

    def __call__(
        self, tokens: jax.Array, mask: jax.Array, return_hidden: bool = False, *, key: jax.Array
    ) -> jax.Array | dict[str, jax.Array]:
        embed, head = self.shared()
        length = len(tokens)
        x = jax.vmap(embed)(tokens) + jax.vmap(self.positions)(jnp.arange(length))
        causal = jnp.tril(jnp.ones((length, length), bool)) & mask
        for block, key_ in zip(self.blocks, jax.random.split(key, len(self.blocks)), strict=True):
            x = block(x, causal, key_)
        x = jax.vmap(self.norm)(x)
        logits = jax.vmap(head)(x)
        return {"logits": logits, "hidden": x} if return_hidden else logits


def cnn() -> tuple[eqx.Module, nn.State]:
    return nn.make_with_state(CNN)(jax.random.key(0))


def vit(depth: int = DEPTH) -> eqx.Module:
    return ViT(depth, jax.random.key(0))


def gpt(depth: int = DEPTH) -> eqx.Module:
    return GPT(depth, jax.random.key(0))
