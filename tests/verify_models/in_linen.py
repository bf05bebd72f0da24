"""The models in Flax linen: channels last, attention by heads, blocks stacked for a scan on demand."""

import flax.linen as nn
import jax
import jax.numpy as jnp

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


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPSILON)(x)
        x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        x = nn.Conv(6, (3, 3), (2, 2), padding=1, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=EPSILON)(x))
        x = nn.Dropout(LATE_DROPOUT, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(OUTPUTS)(x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, train: bool) -> jax.Array:
        dropout = nn.Dropout(DROPOUT, deterministic=not train)
        y = nn.LayerNorm(epsilon=EPSILON)(x)
        x = x + dropout(nn.MultiHeadDotProductAttention(HEADS)(y, mask=mask))
        y = nn.Dense(HIDDEN, name="up")(nn.LayerNorm(epsilon=EPSILON)(x))
        return x + dropout(nn.Dense(WIDTH, name="down")(nn.gelu(y, approximate=False)))


class ViT(nn.Module):
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        x = nn.Conv(WIDTH, (PATCH, PATCH), (PATCH, PATCH), name="embedding")(x)
        x = x.reshape(len(x), -1, WIDTH)
        cls = self.param("cls", nn.initializers.normal(1.0), (1, 1, WIDTH))
        tokens = (SIZE // PATCH) ** 2 + 1
        positions = self.param("positions", nn.initializers.normal(1.0), (1, tokens, WIDTH))
        x = jnp.concatenate([jnp.broadcast_to(cls, (len(x), 1, WIDTH)), x], 1) + positions
        for number in range(self.depth):
            x = Block(name=f"layer_{number}")(x, None, not deterministic)
        x = nn.LayerNorm(epsilon=EPSILON, name="final_norm")(x)
        return nn.Dense(OUTPUTS, name="classifier")(x[:, 0])


class Step(nn.Module):
    """A block as a step of a scan."""

    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        return Block(name="block")(x, mask, self.train), None


class GPT(nn.Module):
    depth: int
    stacked: bool = False

    @nn.compact
    def __call__(
        self, tokens: jax.Array, mask: jax.Array, return_hidden: bool = False, train: bool = False
    ) -> jax.Array | dict[str, jax.Array]:
        embed = nn.Embed(VOCABULARY, WIDTH, name="tokens")
        length = tokens.shape[1]
        x = embed(tokens) + nn.Embed(LENGTH, WIDTH, name="positions")(jnp.arange(length))
        mask = nn.make_causal_mask(tokens, dtype=bool) & mask[:, None, None]
        if self.stacked:
            scan = nn.scan(
                Step,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=nn.broadcast,
                length=self.depth,
            )
            x, _ = scan(train, name="layers")(x, mask)
        else:
            for number in range(self.depth):
                x = Block(name=f"layer_{number}")(x, mask, train)
        x = nn.LayerNorm(epsilon=EPSILON, name="norm")(x)
        logits = embed.attend(x)
        return {"logits": logits, "hidden": x} if return_hidden else logits


def cnn() -> nn.Module:
    return CNN()


def vit(depth: int = DEPTH) -> nn.Module:
    return ViT(depth)


def gpt(depth: int = DEPTH, stacked: bool = False) -> nn.Module:
    return GPT(depth, stacked)
