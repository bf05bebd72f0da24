"""The models in Flax NNX: channels last, blocks in lists and dictionaries."""

import jax
import jax.numpy as jnp
from flax import nnx

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


class CNN(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        norm = {"momentum": MOMENTUM, "epsilon": EPSILON, "rngs": rngs}
        self.head = nnx.Linear(
            6 * (SIZE // 4) ** 2, OUTPUTS, rngs=rngs
        )  # defined first, called last
        self.convs = nnx.Dict(
            first=nnx.Conv(3, 4, (3, 3), rngs=rngs),
            second=nnx.Conv(4, 6, (3, 3), 2, padding=1, use_bias=False, rngs=rngs),
        )
        self.norms = nnx.List([nnx.BatchNorm(4, **norm), nnx.BatchNorm(6, **norm)])
        self.dropout = nnx.Dropout(LATE_DROPOUT, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.norms[0](self.convs["first"](x))), (2, 2), (2, 2))
        x = nnx.relu(self.norms[1](self.convs["second"](x)))
        return self.head(self.dropout(x.reshape(len(x), -1)))


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.mlp = nnx.List(
            [nnx.Linear(*shape, rngs=rngs) for shape in ((WIDTH, HIDDEN), (HIDDEN, WIDTH))]
        )
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.dropout = nnx.Dropout(DROPOUT, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = x + self.dropout(self.attention(self.norms[0](x), mask=mask))
        y = nnx.gelu(self.mlp[0](self.norms[1](x)), approximate=False)
        return x + self.dropout(self.mlp[1](y))


class ViT(nnx.Module):
    def __init__(self, depth: int, rngs: nnx.Rngs) -> None:
        tokens = (SIZE // PATCH) ** 2 + 1
        self.patches = nnx.Conv(3, WIDTH, (PATCH, PATCH), PATCH, rngs=rngs)
        self.cls = nnx.Param(rngs.normal((1, 1, WIDTH)))
        self.positions = nnx.Param(rngs.normal((tokens, WIDTH)))
        self.blocks = nnx.List([Block(rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
        self.head = nnx.Linear(WIDTH, OUTPUTS, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patches(x).reshape(len(x), -1, WIDTH)
        x = jnp.concatenate([jnp.tile(self.cls[...], (len(x), 1, 1)), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class GPT(nnx.Module):
    """Called with the generator of its random numbers where it trains."""

    def __init__(self, depth: int, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)

    def __call__(
        self, tokens: jax.Array, mask: jax.Array, return_hidden: bool = False
    ) -> jax.Array | dict[str, jax.Array]:
        x = self.embed(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        mask = nnx.make_causal_mask(tokens, dtype=bool) & mask[:, None, None]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        logits = self.embed.attend(x)
        return {"logits": logits, "hidden": x} if return_hidden else logits


def cnn() -> nnx.Module:
    return CNN(nnx.Rngs(0))


def vit(depth: int = DEPTH) -> nnx.Module:
    return ViT(depth, nnx.Rngs(0))


def gpt(depth: int = DEPTH) -> nnx.Module:
    return GPT(depth, nnx.Rngs(0))
