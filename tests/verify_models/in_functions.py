"""The models in plain JAX: a pair, a pair with a state, and an object as Haiku makes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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

Tree = dict | list | tuple


class Transformed(NamedTuple):
    init: Callable
    apply: Callable


class Affine(NamedTuple):
    w: jax.Array
    b: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass
class Weights:
    table: jax.Array
    positions: jax.Array
    blocks: list[Tree]
    norm: Affine


def draw(key: jax.Array, *shape: int) -> jax.Array:
    return jax.random.normal(key, shape) / 4


def affine(key: jax.Array, inputs: int, outputs: int) -> Affine:
    return Affine(draw(key, inputs, outputs), jnp.zeros(outputs))


def scales(size: int) -> Affine:
    return Affine(jnp.ones(size), jnp.zeros(size))


def linear(p: Affine, x: jax.Array) -> jax.Array:
    return x @ p.w + p.b


def layer_norm(p: Affine, x: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * p.w + p.b


def dropout(key: jax.Array, rate: float, x: jax.Array, train: bool) -> jax.Array:
    if not train:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def conv(w: jax.Array, x: jax.Array, stride: int, padding: int) -> jax.Array:
    pads = [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def batch_norm(
    p: Affine, state: dict, x: jax.Array, train: bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
    mean, var = state["mean"], state["var"]
    if train:
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        new = {"mean": mean, "var": var}
        state = {n: MOMENTUM * old + (1 - MOMENTUM) * new[n] for n, old in state.items()}
    return (x - mean) / jnp.sqrt(var + EPSILON) * p.w + p.b, state


def cnn() -> tuple[Callable, Callable]:
    def init(key: jax.Array, x: jax.Array) -> tuple[Tree, Tree]:
        keys = jax.random.split(key, 3)
        params = {
            "first": Affine(draw(keys[0], 3, 3, x.shape[-1], 4), jnp.zeros(4)),
            "second": Affine(draw(keys[1], 3, 3, 4, 6)),
            "norms": (scales(4), scales(6)),
            "head": affine(keys[2], 6 * (SIZE // 4) ** 2, OUTPUTS),
        }
        state = [{"mean": jnp.zeros(size), "var": jnp.ones(size)} for size in (4, 6)]
        return params, state

    def apply(
        params: dict, state: list, x: jax.Array, *, key: jax.Array, is_training: bool
    ) -> tuple[jax.Array, list]:
        x = conv(params["first"].w, x, 1, 1) + params["first"].b
        x, first = batch_norm(params["norms"][0], state[0], x, is_training)
        x = jax.nn.relu(x).reshape(len(x), SIZE // 2, 2, SIZE // 2, 2, 4).max((2, 4))
        x = conv(params["second"].w, x, 2, 1)
        x, second = batch_norm(params["norms"][1], state[1], x, is_training)
        x = dropout(key, LATE_DROPOUT, jax.nn.relu(x).reshape(len(x), -1), is_training)
        return linear(params["head"], x), [first, second]

    return init, apply


def block_weights(key: jax.Array) -> dict[str, Affine]:
    keys = jax.random.split(key, 4)
    return {
        "down": affine(keys[0], HIDDEN, WIDTH),
        "up": affine(keys[1], WIDTH, HIDDEN),
        "out": affine(keys[2], WIDTH, WIDTH),
        "qkv": affine(keys[3], WIDTH, 3 * WIDTH),
        "ln1": scales(WIDTH),
        "ln2": scales(WIDTH),
    }


def block(
    p: dict[str, Affine], x: jax.Array, mask: jax.Array | None, key: jax.Array, train: bool
) -> jax.Array:
    first, second = jax.random.split(key)
    heads = linear(p["qkv"], layer_norm(p["ln1"], x))
    q, k, v = jnp.moveaxis(heads.reshape(*x.shape[:2], 3, HEADS, WIDTH // HEADS), 2, 0)
    scores = jnp.einsum("bihd,bjhd->bhij", q, k) / (WIDTH // HEADS) ** 0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    y = jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores), v).reshape(x.shape)
    x = x + dropout(first, DROPOUT, linear(p["out"], y), train)
    y = jax.nn.gelu(linear(p["up"], layer_norm(p["ln2"], x)), approximate=False)
    return x + dropout(second, DROPOUT, linear(p["down"], y), train)


def vit(depth: int = DEPTH) -> Transformed:
    """Flat names with slashes, and the key as second argument, as in Haiku."""

    def init(rng: jax.Array, image: jax.Array) -> Tree:
        del image
        keys = jax.random.split(rng, depth + 4)
        params = {
            "vit/~/patches": {"w": draw(keys[0], PATCH, PATCH, 3, WIDTH), "b": jnp.zeros(WIDTH)},
            "vit": {
                "cls": draw(keys[1], WIDTH),
                "positions": draw(keys[2], (SIZE // PATCH) ** 2 + 1, WIDTH),
            },
            "vit/~/norm": scales(WIDTH)._asdict(),
            "vit/~/head": affine(keys[3], WIDTH, OUTPUTS)._asdict(),
        }
        for number, key in enumerate(keys[4:]):
            for name, value in block_weights(key).items():
                params[f"vit/~/block_{number}/~/{name}"] = value._asdict()
        return params

    def apply(params: dict, rng: jax.Array, image: jax.Array, is_training: bool) -> jax.Array:
        patches = params["vit/~/patches"]
        x = conv(patches["w"], image, PATCH, 0).reshape(len(image), -1, WIDTH) + patches["b"]
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 0))) + params["vit"]["positions"]
        x = x.at[:, 0].add(params["vit"]["cls"])
        for number, key in enumerate(jax.random.split(rng, depth)):
            prefix = f"vit/~/block_{number}/~/"
            own = {
                name.removeprefix(prefix): Affine(**value)
                for name, value in params.items()
                if name.startswith(prefix)
            }
            x = block(own, x, None, key, is_training)
        x = layer_norm(Affine(**params["vit/~/norm"]), x[:, 0])
        return linear(Affine(**params["vit/~/head"]), x)

    return Transformed(init, apply)


def gpt(depth: int = DEPTH) -> tuple[Callable, Callable]:
    """A dataclass of parameters, drawn from a key alone."""

    def init(key: jax.Array) -> Weights:
        keys = jax.random.split(key, depth + 2)
        return Weights(
            draw(keys[0], VOCABULARY, WIDTH),
            draw(keys[1], LENGTH, WIDTH),
            [block_weights(key) for key in keys[2:]],
            scales(WIDTH),
        )

    def apply(
        weights: Weights,
        ids: jax.Array,
        valid: jax.Array,
        dropout_key: jax.Array,
        train: bool = False,
        return_hidden: bool = False,
    ) -> jax.Array | dict[str, jax.Array]:
        length = ids.shape[1]
        x = weights.table[ids] + weights.positions[jnp.arange(length)]
        mask = jnp.tril(jnp.ones((length, length), bool)) & valid[:, None, None]
        for own, key in zip(weights.blocks, jax.random.split(dropout_key, depth), strict=True):
            x = block(own, x, mask, key, train)
        x = layer_norm(weights.norm, x)
        logits = x @ weights.table.T
        return {"logits": logits, "hidden": x} if return_hidden else logits

    return init, apply
