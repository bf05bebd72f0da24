"""Transformers in linen: vit, gpt, bert, llama, t5."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.verify_mutants.linen_side.attention import Attention, causal_mask, padding_mask
from benchmarks.verify_mutants.linen_side.layers import (
    GatedMlp,
    Mlp,
    Table,
    cross_entropy,
    dense,
    drop,
    norm,
    stop,
)
from benchmarks.verify_mutants.settings import (
    CLASSES,
    DEPTH,
    HEADS,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    Plan,
    Settings,
)

PATCH, DISTANCE = 4, 3  # distances beyond share a relative position
Named = dict[str, nn.Module]


class Block(nn.Module):
    """Attention and a multilayer perceptron, each with a residual connection and a norm.

    `given` are layers that it shares with another block.
    """

    s: Settings
    use_bias: bool = True
    rope: bool = False
    gated: bool = False
    cross: bool = False
    given: Named | None = None

    def setup(self) -> None:
        """Make the layers."""
        s, given = self.s, self.given or {}
        self.ln_attn = given.get("norm1") or norm(s)
        self.attention = given.get("attn") or Attention(s, self.use_bias, self.rope)
        self.ln_ffn = given.get("norm2") or norm(s)
        self.ffn = given.get("mlp") or (GatedMlp(s) if self.gated else Mlp(s))
        if self.cross:
            self.ln_cross = norm(s)
            self.cross_attention = Attention(s, self.use_bias)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array | None = None,
        bias: jax.Array | None = None,
        memory: jax.Array | None = None,
        memory_visible: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """`[batch, length, width]` to the same; `memory` is read between the two parts."""
        s = self.s
        if s.order == "parallel":
            y = self.attention(self.ln_attn(x), visible, None, bias, train)
            y = y + self.ffn(self.ln_ffn(x), train)
            return x + drop(self, y, "branch", s, train)

        def cross(y: jax.Array) -> jax.Array:
            return self.cross_attention(y, memory_visible, memory, None, train)

        def attention(y: jax.Array) -> jax.Array:
            return self.attention(y, visible, None, bias, train)

        x = self._branch(x, self.ln_attn, attention, train)
        if memory is not None:
            x = self._branch(x, self.ln_cross, cross, train)
        return self._branch(x, self.ln_ffn, lambda y: self.ffn(y, train), train)

    def _branch(
        self, x: jax.Array, normed: nn.Module, layer: Callable[[jax.Array], jax.Array], train: bool
    ) -> jax.Array:
        s = self.s
        if s.norm_place == "input":
            x = normed(x)
        y = layer(normed(x) if s.norm_place == "pre" else x)
        y = stop(drop(self, y, "branch", s, train), "branch", s)
        if s.gradient_factor != 1:
            y = s.gradient_factor * y + (1 - s.gradient_factor) * jax.lax.stop_gradient(y)
        if "residual" not in s.missing:
            y = s.residual_factor * stop(x, "residual", s) + y
        y = drop(self, y, "sum", s, train)
        return normed(y) if s.norm_place == "post" else y


def make_blocks(plan: Plan, name: str, **keywords: bool) -> list[nn.Module]:
    """Blocks of a model; what the settings call shared is that of the first block."""
    s = plan.whole
    makers: dict[str, Callable[[], nn.Module]] = {
        "norm1": lambda: norm(s, "shared_ln_attn"),
        "norm2": lambda: norm(s, "shared_ln_ffn"),
        "attn": lambda: Attention(s, keywords.get("use_bias", True), name="shared_attention"),
        "mlp": lambda: Mlp(s, name="shared_ffn"),
    }
    given = {part: makers[part]() for part in sorted(s.shared)}
    kind = nn.remat(Block, static_argnums=(6,)) if s.remat else Block
    return [
        kind(plan.block(index), **keywords, given=given, name=f"{name}_{index}")
        for index in range(DEPTH)
    ]


class Stack(nn.Module):
    """Blocks whose parameters are stacked, run by a scan."""

    s: Settings
    keywords: dict[str, bool]

    @nn.compact
    def __call__(
        self, x: jax.Array, visible: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """`[batch, length, width]` to the same."""

        def body(block: nn.Module, carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            return block(carry, visible, train=train), None

        run = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=DEPTH,
        )
        return run(Block(self.s, **self.keywords, name="block"), x, None)[0]


def run_blocks(
    plan: Plan, x: jax.Array, visible: jax.Array | None, train: bool, **keywords: bool
) -> jax.Array:
    """Run the blocks of a model, one after the other or in a scan."""
    if plan.whole.stacked:
        return Stack(plan.whole, keywords, name="blocks")(x, visible, train)
    for block in make_blocks(plan, "block", **keywords):
        x = block(x, visible, None, None, None, train)
    return x


def pooled(x: jax.Array, s: Settings, mask: jax.Array | None = None) -> jax.Array:
    """One vector of a sequence `[batch, length, width]`."""
    if s.pool == "masked mean" and mask is not None:
        weights = mask.astype(x.dtype)[..., None]
        return (x * weights).sum(1) / weights.sum(1)
    results = {"first": lambda: x[:, 0], "last": lambda: x[:, -1], "sum": lambda: x.sum(1),
               "max": lambda: x.max(1), "mean": lambda: x.mean(1)}  # fmt: skip
    return results[s.pool]()


class Vit(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021)."""

    plan: Plan

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images `[batch, 8, 8, 3]` to logits."""
        s, normal = self.plan.whole, nn.initializers.normal(1.0)
        if s.layout == "channels last":  # patches are cut out, and a dense layer is applied
            b, h, w, c = x.shape
            x = x.reshape(b, h // PATCH, PATCH, w // PATCH, PATCH, c).swapaxes(2, 3)
            x = nn.Dense(WIDTH, name="patches")(x.reshape(b, -1, PATCH * PATCH * c))
        else:
            size = (PATCH, PATCH)
            x = nn.Conv(WIDTH, size, size, padding="VALID", name="patches")(x)
            x = x.reshape(len(x), -1, WIDTH)
        shape = (WIDTH,) if s.shapes == "unit" else (1, 1, WIDTH)
        token = jnp.broadcast_to(self.param("token", normal, shape), (len(x), 1, WIDTH))
        places = self.param("place", normal, (1, 5, WIDTH)[s.shapes == "unit" :])
        places = places.reshape(1, 5, WIDTH)
        if "late positions" in s.extra:  # the token gets none
            x = jnp.concatenate([token, x + places[:, 1:]], 1)
        else:
            x = jnp.concatenate([token, x], 1) + stop(places, "positions", s)
        x = drop(self, stop(x, "embedding", s), "embedding", s, train)
        x = run_blocks(self.plan, x, None, train)
        if "final norm" not in s.missing:
            x = norm(s, "ln_out")(x)
        return nn.Dense(CLASSES, name="classifier")(drop(self, pooled(x, s), "head", s, train))


class Gpt(nn.Module):
    """A causal language model with a tied head (Radford et al. 2019), and its loss."""

    plan: Plan

    @nn.compact
    def __call__(
        self, ids: jax.Array, labels: jax.Array, train: bool = False
    ) -> dict[str, jax.Array]:
        """Tokens and labels `[batch, length]` to logits and the loss of the next tokens."""
        s = self.plan.whole
        embed = Table(VOCABULARY, WIDTH, s, name="embed")
        visible = None if "mask" in s.missing else causal_mask(ids.shape[1], s)
        places = jnp.minimum(jnp.arange(ids.shape[1]) + s.first_position, s.last_position)
        x = stop(embed(ids) * s.embedding_scale, "embedding", s)
        x = x + Table(POSITIONS, WIDTH, s, name="position")(places)
        x = drop(self, x, "embedding", s, train)
        x = run_blocks(self.plan, x, visible, train)
        if "final norm" not in s.missing:
            x = norm(s, "ln_out")(x)
        if "minus batch mean" in s.extra:
            x = x - x.mean(0)
        if s.tied:
            logits = x @ stop(embed.matrix(), "head", s).T
        else:
            logits = dense(VOCABULARY, s, False, "classifier")(x)
        logits = logits * s.head_scale
        if s.loss == "unshifted":
            return {"logits": logits, "loss": cross_entropy(logits, labels, s)}
        return {"logits": logits, "loss": cross_entropy(logits[:, :-1], labels[:, 1:], s)}


class Bert(nn.Module):
    """An encoder with padding and segments (Devlin et al. 2019), its pooler and a classifier."""

    plan: Plan

    @nn.compact
    def __call__(
        self, ids: jax.Array, mask: jax.Array, segments: jax.Array, train: bool = False
    ) -> dict[str, jax.Array]:
        """Tokens, mask of tokens and segments `[batch, length]` to hidden states and logits."""
        s = self.plan.whole
        visible = padding_mask(mask, s)
        places = jnp.minimum(jnp.arange(ids.shape[1]) + s.first_position, s.last_position)[None]
        if "positions from mask" in s.extra:  # padding does not count
            places = jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)
        if "segments" in s.missing:
            segments = jnp.zeros_like(segments)
        x = Table(VOCABULARY, WIDTH, s, name="embed")(ids)
        x = x + Table(POSITIONS, WIDTH, s, name="position")(places)
        segment = Table(2, WIDTH, s, name="segment")(segments)
        ln = norm(s, "ln_out")
        x = ln(x) + segment if s.order == "segments last" else ln(x + segment)
        x = drop(self, stop(x, "embedding", s), "embedding", s, train)
        x = run_blocks(self.plan, x, visible, train)
        y = pooled(x, s, mask)
        if "pooler" not in s.missing:
            y = jnp.tanh(nn.Dense(WIDTH, name="pool")(y))
        logits = nn.Dense(CLASSES, name="classifier")(drop(self, y, "head", s, train))
        return {"hidden": x, "logits": logits}


class Llama(nn.Module):
    """A causal language model with root mean squares, rotary positions and grouped keys."""

    plan: Plan

    @nn.compact
    def __call__(self, ids: jax.Array, train: bool = False) -> jax.Array:
        """Tokens `[batch, length]` to logits."""
        s = self.plan.whole
        embed = Table(VOCABULARY, WIDTH, s, name="embed")
        visible = None if "mask" in s.missing else causal_mask(ids.shape[1], s)
        x = embed(ids) * s.embedding_scale
        x = run_blocks(self.plan, x, visible, train, use_bias=False, rope=True, gated=True)
        if "final norm" not in s.missing:
            x = norm(s, "ln_out")(x)
        if s.tied:
            return s.head_scale * (x @ embed.matrix().T)
        return s.head_scale * dense(VOCABULARY, s, False, "classifier")(x)


class T5(nn.Module):
    """An encoder and a decoder with relative positions and one table (Raffel et al. 2020)."""

    plan: Plan

    @nn.compact
    def __call__(
        self, ids: jax.Array, mask: jax.Array, decoder_ids: jax.Array, train: bool = False
    ) -> jax.Array:
        """Tokens and their mask `[batch, length]`, tokens of the decoder, to logits."""
        s, plan = self.plan.whole, self.plan
        embed = Table(VOCABULARY, WIDTH, s, name="embed")
        visible = padding_mask(mask, s)
        rows = 2 * DISTANCE + 1
        bias = relative_bias(Table(rows, HEADS, s, name="encoder_distance"), ids.shape[1], s)
        x = embed(ids) * s.embedding_scale
        for block in make_blocks(plan, "encoder_block", use_bias=False, gated=True):
            x = block(x, visible, bias, None, None, train)
        memory = x if "final norm" in s.missing else norm(s, "ln_memory")(x)
        memory = drop(self, stop(memory, "memory", s), "head", s, train)
        length = decoder_ids.shape[1]
        bias = relative_bias(Table(rows, HEADS, s, name="decoder_distance"), length, s)
        y = embed(decoder_ids) * s.embedding_scale
        seen = None if "memory mask" in s.missing else visible
        for block in make_blocks(plan, "decoder_block", use_bias=False, gated=True, cross=True):
            y = block(y, causal_mask(length, s), bias, memory, seen, train)
        return s.head_scale * (norm(s, "ln_out")(y) @ embed.matrix().T)


def relative_bias(table: Table, length: int, s: Settings) -> jax.Array:
    """Scores by distance, `[heads, length, length]`."""
    places = jnp.arange(length)
    distance = places[None] - places[:, None]
    if s.order == "distance mirrored":
        distance = -distance
    return table(jnp.clip(distance, -DISTANCE, DISTANCE) + DISTANCE).transpose(2, 0, 1)
