"""Attention of the base models in linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.verify_mutants.linen_side.layers import dense, drop, stop
from benchmarks.verify_mutants.settings import HEADS, WIDTH, Settings

HEAD = WIDTH // HEADS


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), with rotary positions if asked."""

    s: Settings
    use_bias: bool = True
    rope: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        visible: jax.Array | None = None,
        memory: jax.Array | None = None,
        bias: jax.Array | None = None,
        train: bool = False,
    ) -> jax.Array:
        """`[batch, length, width]` to the same; `visible` is `[batch or 1, 1, length or 1, keys]`."""
        s = self.s
        q, k, v = self._project(x, x if memory is None else memory)  # [batch, length, heads, width]
        if s.exchanged:
            q, k = k, q
        if self.rope:
            q = rotate(q, s) if "q" in s.rope_on else q
            k = rotate(k, s) if "k" in s.rope_on else k
            v = rotate(v, s) if "v" in s.rope_on else v
        repeats = HEADS // s.kv_heads
        if repeats > 1 and s.kv_order == "tile":
            k, v = jnp.tile(k, (1, 1, repeats, 1)), jnp.tile(v, (1, 1, repeats, 1))
        elif repeats > 1:
            k, v = jnp.repeat(k, repeats, axis=2), jnp.repeat(v, repeats, axis=2)
        scale = {"head": HEAD**-0.5, "model": WIDTH**-0.5, "none": 1.0}[s.scale]
        if s.attention == "library":
            rate = s.dropout if "attention" in s.dropouts else 0.0
            out = nn.dot_product_attention(
                q * (scale * HEAD**0.5), k, v, mask=visible, deterministic=not train,
                dropout_rate=rate, broadcast_dropout=False,
                dropout_rng=self.make_rng("dropout") if train else None,
            )  # fmt: skip
        else:
            out = self._attend(q, k, v, scale, visible, bias, train)
        return self._out(out)

    def _attend(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        scale: float,
        visible: jax.Array | None,
        bias: jax.Array | None,
        train: bool,
    ) -> jax.Array:
        s = self.s
        if s.attention == "transposed":  # keys before queries
            scores = jnp.einsum("bkhd,bqhd->bhqk", k, q) * scale
        else:
            scores = jnp.einsum("bqhd,bkhd->bhqk", q * scale, k)
        if bias is not None:
            scores = scores + bias
        if s.softcap:
            scores = s.softcap * jnp.tanh(scores / s.softcap)
        if visible is not None and s.mask != "weights":
            scores = masked(scores, visible, s)
        weights = softmax(scores, s)
        if visible is not None and s.mask == "weights":
            weights = weights * visible
        weights = drop(self, stop(weights, "weights", s), "attention", s, train)
        if s.attention == "transposed":
            return jnp.einsum("bkhd,bhqk->bqhd", v, weights)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v)

    def _project(self, x: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return queries, keys and values `[batch, length, heads, width of a head]`."""
        s, narrow = self.s, HEAD * self.s.kv_heads
        if s.qkv == "heads":
            q, k, v = (
                nn.DenseGeneral((size // HEAD, HEAD), use_bias=self.use_bias, name=name)(source)
                for name, size, source in (
                    ("query", WIDTH, x), ("key", narrow, memory), ("value", narrow, memory)
                )
            )  # fmt: skip
            return q, k, v
        if s.qkv == "separate":
            wanted = [("query", WIDTH, x), ("key", narrow, memory), ("value", narrow, memory)]
            made = {
                name: dense(size, s, self.use_bias and f"{name[0]} bias" not in s.missing, name)(y)
                for name, size, y in (wanted[::-1] if s.definition == "reversed" else wanted)
            }
            q, k, v = made["query"], made["key"], made["value"]
            return self._split(q), self._split(k), self._split(v)
        fused = dense(WIDTH + 2 * narrow, s, self.use_bias, "qkv")(x)
        if s.qkv == "interleaved":  # query, key and value of one head after the other
            fused = fused.reshape(*x.shape[:2], HEADS, 3, HEAD)
            return fused[:, :, :, 0], fused[:, :, :, 1], fused[:, :, :, 2]
        q, k, v = jnp.split(fused, [WIDTH, WIDTH + narrow], -1)
        return self._split(q), self._split(k), self._split(v)

    def _split(self, x: jax.Array) -> jax.Array:
        if self.s.head_order == "last":
            return x.reshape(*x.shape[:2], HEAD, -1).swapaxes(2, 3)
        return x.reshape(*x.shape[:2], -1, HEAD)

    def _out(self, x: jax.Array) -> jax.Array:
        if self.s.qkv == "heads":
            return nn.DenseGeneral(WIDTH, axis=(-2, -1), use_bias=self.use_bias, name="out")(x)
        if self.s.head_order == "last":
            x = x.swapaxes(2, 3)
        return dense(WIDTH, self.s, self.use_bias, "out")(x.reshape(*x.shape[:2], WIDTH))


def masked(scores: jax.Array, visible: jax.Array, s: Settings) -> jax.Array:
    """Hide what is not visible."""
    if s.attention == "masked by a sum":
        return scores + jnp.where(visible, 0.0, s.mask_value)
    return jnp.where(visible, scores, s.mask_value)


def softmax(scores: jax.Array, s: Settings) -> jax.Array:
    """Weights of the keys."""
    if s.float32:
        scores = scores.astype(jnp.float32)
    if s.formula == "manual":
        powers = jnp.exp(scores - scores.max(s.softmax_axis, keepdims=True))
        return powers / powers.sum(s.softmax_axis, keepdims=True)
    return nn.softmax(scores, axis=s.softmax_axis)


def causal_mask(length: int, s: Settings) -> jax.Array:
    """Return what each token sees, `[1, 1, length, length]`."""
    ones = jnp.ones((length, length), bool)
    visible = jnp.tril(ones, s.causal)
    if s.window:
        visible = visible & jnp.triu(ones, 1 - s.window)
    return visible[None, None]


def padding_mask(mask: jax.Array, s: Settings) -> jax.Array | None:
    """Return which tokens are seen, `[batch, 1, 1, length]`, from ones and zeros `[batch, length]`."""
    if "mask" in s.missing:
        return None
    if s.mask == "first":
        mask = mask[:1]
    return mask.astype(bool)[:, None, None, :]


def rotate(x: jax.Array, s: Settings) -> jax.Array:
    """Rotary positions (Su et al. 2021) of `[batch, length, heads, features]`."""
    width = int(x.shape[-1] * s.rope_share)
    x, rest = x[..., :width], x[..., width:]
    powers = jnp.arange(0, width, 2, dtype=jnp.float64) / width
    positions = jnp.arange(x.shape[1]) + s.first_position
    angles = positions[:, None, None] / s.rope_base**powers
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if s.rope_pairs == "interleaved":
        a, b = x[..., ::2], x[..., 1::2]
        turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)
    else:
        a, b = jnp.split(x, 2, -1)
        turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    return lax.concatenate([turned, rest], 3) if rest.shape[-1] else turned
