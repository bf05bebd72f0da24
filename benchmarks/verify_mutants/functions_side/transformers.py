"""A causal language model as plain functions of JAX."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from benchmarks.verify_mutants.linen_side.attention import HEAD, causal_mask, masked, softmax
from benchmarks.verify_mutants.linen_side.layers import activate, cross_entropy, standardise, stop
from benchmarks.verify_mutants.settings import (
    DEPTH,
    HIDDEN,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    Plan,
    Settings,
)

Params = dict[str, "jax.Array | Params"]
NORM = {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}


def Gpt(plan: Plan) -> tuple[Callable, Callable]:  # as the classes of the other sides
    """Return `(init, apply)` of a causal language model with a tied head, and its loss."""

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 2 + 6 * DEPTH))

        def layer(inputs: int, outputs: int) -> Params:
            kernel = jax.random.normal(next(keys), (inputs, outputs)) / inputs**0.5
            return {"kernel": kernel, "bias": jnp.zeros(outputs)}

        params: Params = {
            "embed": jax.random.normal(next(keys), (VOCABULARY, WIDTH)),
            "position": jax.random.normal(next(keys), (POSITIONS, WIDTH)),
            "ln_out": NORM,
        }
        for index in range(DEPTH):
            params[f"block_{index}"] = {
                "ln_attn": NORM,
                "attention": {n: layer(WIDTH, WIDTH) for n in ("query", "key", "value", "out")},
                "ln_ffn": NORM,
                "ffn": {"Dense_0": layer(WIDTH, HIDDEN), "Dense_1": layer(HIDDEN, WIDTH)},
            }
        return params

    def apply(
        params: Params, ids: jax.Array, labels: jax.Array, key: jax.Array, train: bool
    ) -> dict[str, jax.Array]:
        s, keys = plan.whole, iter(jax.random.split(key, 1 + 3 * DEPTH))
        visible = None if "mask" in s.missing else causal_mask(ids.shape[1], s)
        places = jnp.minimum(jnp.arange(ids.shape[1]) + s.first_position, s.last_position)
        x = params["embed"][ids] * s.embedding_scale + params["position"][places]
        x = drop(next(keys), x, "embedding", s, train)
        for index in range(DEPTH):
            p, b = params[f"block_{index}"], plan.block(index)
            y = attend(p["attention"], normed(p["ln_attn"], x, b), visible, b, next(keys), train)
            x = total(x, drop(next(keys), y, "branch", b, train), b)
            y = activate(dense(p["ffn"]["Dense_0"], normed(p["ln_ffn"], x, b)), b)
            y = dense(p["ffn"]["Dense_1"], y)
            x = total(x, drop(next(keys), y, "branch", b, train), b)
        logits = s.head_scale * (normed(params["ln_out"], x, s) @ params["embed"].T)
        if s.loss == "unshifted":
            return {"logits": logits, "loss": cross_entropy(logits, labels, s)}
        return {"logits": logits, "loss": cross_entropy(logits[:, :-1], labels[:, 1:], s)}

    return init, apply


def attend(
    p: Mapping[str, Params],
    x: jax.Array,
    visible: jax.Array | None,
    s: Settings,
    key: jax.Array,
    train: bool,
) -> jax.Array:
    """Multi-head attention of `[batch, length, width]`."""
    q, k, v = (dense(p[n], x).reshape(*x.shape[:2], -1, HEAD) for n in ("query", "key", "value"))
    scale = {"head": HEAD**-0.5, "model": WIDTH**-0.5, "none": 1.0}[s.scale]
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * scale, k)
    weights = softmax(scores if visible is None else masked(scores, visible, s), s)
    weights = drop(key, weights, "attention", s, train)
    return dense(p["out"], jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape))


def dense(p: Params, x: jax.Array) -> jax.Array:
    """Return a dense layer's result."""
    return x @ p["kernel"] + p["bias"]


def normed(p: Params, x: jax.Array, s: Settings) -> jax.Array:
    """Layer norm."""
    return standardise(x, (-1,), s) * p["scale"] + p["bias"]


def total(x: jax.Array, y: jax.Array, s: Settings) -> jax.Array:
    """Sum of a residual and a branch."""
    y = stop(y, "branch", s)
    return y if "residual" in s.missing else s.residual_factor * stop(x, "residual", s) + y


def drop(key: jax.Array, x: jax.Array, place: str, s: Settings, train: bool) -> jax.Array:
    """Dropout, at the places where the settings have it."""
    if place not in s.dropouts or not train:
        return x
    kept = jax.random.bernoulli(key, 1 - s.dropout, x.shape)
    return jnp.where(kept, x / (1 - s.dropout), 0.0)
