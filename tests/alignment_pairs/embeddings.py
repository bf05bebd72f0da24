"""Patches, tokens, positions, and heads that share a table."""

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

from alignment_pairs.pair import Pair, function

WIDTH, LENGTH, ROWS, LAST = 8, 5, 11, 40
IMAGES = (2, 3, 8, 12)


def table(*shape):
    return nn.Parameter(torch.randn(*shape))


class Patches(nn.Module):
    """Patches by a convolution, with a class token and positions."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, 4, 4)
        self.token, self.positions = table(1, 1, WIDTH), table(1, 7, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = self.proj(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(torch.tanh(x))


def cut(x):
    """Patches `[batch, rows · columns, 4, 4, channels]` of images with channels first."""
    x = x.transpose(0, 2, 3, 1)
    b, h, w, c = x.shape
    x = x.reshape(b, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, -1, 4, 4, c)


def with_token(p, x):
    token = jnp.broadcast_to(p["t"], (len(x), 1, WIDTH))
    x = jnp.concatenate([token, x], 1) + p["p"]
    return jnp.tanh(x) @ p["h"] + p["g"]


def dense_patches(p, x):
    x = cut(x)
    return with_token(p, x.reshape(*x.shape[:2], -1) @ p["w"] + p["b"])


def einsum_patches(p, x):
    return with_token(p, jnp.einsum("bnijc,cjid->bnd", cut(x), p["w"]) + p["b"])


SMALL = {"t": (WIDTH,), "p": (7, WIDTH), "h": (WIDTH, 3), "g": (3,), "b": (WIDTH,)}


class Unfolded(nn.Module):
    """Patches that are cut out."""

    def __init__(self):
        super().__init__()
        self.proj, self.head = nn.Linear(48, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.proj(F.unfold(x, 4, stride=4).mT)))


class ByConvolution(fnn.Module):
    """The same by a convolution."""

    @fnn.compact
    def __call__(self, x):
        x = fnn.Conv(WIDTH, (4, 4), (4, 4), padding="VALID")(x.transpose(0, 2, 3, 1))
        return fnn.Dense(3)(jnp.tanh(x.reshape(len(x), -1, WIDTH)))


class Language(nn.Module):
    """Tokens and positions that are looked up, and a head that is the table."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(ROWS, WIDTH), nn.Embedding(LAST, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        return F.linear(torch.tanh(self.layer(x)), self.tokens.weight)


def sliced(p, x):
    x = p["e"][x] + p["p"][:, : x.shape[1]]
    return jnp.einsum("bld,vd->blv", jnp.tanh(x @ p["w"] + p["b"]), p["e"])


def one_hot(p, x):
    x = jax.nn.one_hot(x, ROWS, dtype="float64") @ p["e"].T + p["p"][jnp.arange(x.shape[1])]
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["e"]


def whole(p, x):
    x = jnp.take(p["e"], x, axis=0) + p["p"]
    return jnp.dot(jnp.tanh(x @ p["w"] + p["b"]), p["e"].T)


class Attending(fnn.Module):
    """The same with the method of an embedding."""

    @fnn.compact
    def __call__(self, x):
        embed = fnn.Embed(ROWS, WIDTH)
        positions = self.param("p", fnn.initializers.normal(), (LAST, 1, WIDTH))
        x = embed(x) + jax.lax.dynamic_slice_in_dim(positions, 0, x.shape[1])[:, 0]
        return embed.attend(jnp.tanh(fnn.Dense(WIDTH)(x)))


class Exact(nn.Module):
    """The same with as many positions as there are."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(ROWS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)

    forward = Language.forward


IDS = ((3, LENGTH), ROWS)
BASE = {"e": (ROWS, WIDTH), "w": (WIDTH, WIDTH), "b": (WIDTH,)}
PAIRS = {
    "patches by convolution and by a dense layer": Pair(
        Patches, function(dense_patches, w=(48, WIDTH), **SMALL), IMAGES
    ),
    "patches by convolution and by einsum": Pair(
        Patches, function(einsum_patches, w=(3, 4, 4, WIDTH), **SMALL), IMAGES
    ),
    "patches unfolded and by convolution": Pair(Unfolded, ByConvolution, IMAGES),
    "positions looked up and sliced": Pair(
        Language, function(sliced, p=(1, LAST, WIDTH), **BASE), *IDS
    ),
    "tokens as one-hot vectors of a table that lies": Pair(
        Language, function(one_hot, e=(WIDTH, ROWS), p=(LAST, WIDTH), w=(8, 8), b=(8,)), *IDS
    ),
    "positions looked up and added whole": Pair(
        Exact, function(whole, p=(1, LENGTH, WIDTH), **BASE), *IDS
    ),
    "tied head by attend": Pair(Language, Attending, *IDS),
}
