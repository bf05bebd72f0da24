"""Equal layers: stacked for a scan or a vmap, in lists, in branches, in mixtures of experts."""

import equinox as eqx
import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from torch import nn
from torch.nn import functional as F

from alignment_pairs.pair import Pair, function

WIDTH, DEPTH, EXPERTS = 6, 12, 4
ROWS = (5, WIDTH)


class Deep(nn.Module):
    """Twelve equal blocks, made in the reverse order of their use."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH),
                nn.Linear(WIDTH, 2 * WIDTH),
                nn.GELU(),
                nn.Linear(2 * WIDTH, WIDTH),
            )
            for _ in range(DEPTH)
        )
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        for block in self.blocks[::-1]:
            x = x + block(x)
        return self.head(x)


def norm(x, scale, shift):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
        x.var(-1, keepdims=True) + 1e-5
    ) * scale + shift


def block(p, x):
    y = jax.nn.gelu(norm(x, p["s"], p["t"]) @ p["u"] + p["v"], approximate=False)
    return x + y @ p["w"] + p["x"]


BLOCK = {
    "s": (WIDTH,), "t": (WIDTH,), "u": (WIDTH, 2 * WIDTH), "v": (2 * WIDTH,),
    "w": (2 * WIDTH, WIDTH), "x": (WIDTH,),
}  # fmt: skip
STACKED = {name: (DEPTH, *shape) for name, shape in BLOCK.items()}
HEAD = {"y": (WIDTH, 3), "z": (3,)}


def scanned(p, x):
    layers = {name: p[name] for name in BLOCK}
    x, _ = jax.lax.scan(lambda x, layer: (block(layer, x), None), x, layers)
    return x @ p["y"] + p["z"]


def listed(p, x):
    for at in range(DEPTH):
        x = block({name: p[f"{name}{(5 * at) % DEPTH}"] for name in BLOCK}, x)
    return x @ p["y"] + p["z"]


LISTED = {f"{name}{at}": shape for name, shape in BLOCK.items() for at in range(DEPTH)}


class Block(fnn.Module):
    """A block of linen."""

    @fnn.compact
    def __call__(self, x, _):
        y = fnn.Dense(2 * WIDTH)(fnn.LayerNorm(epsilon=1e-5)(x))
        return x + fnn.Dense(WIDTH)(fnn.gelu(y, approximate=False)), None


class Scanned(fnn.Module):
    """The same in a scan of linen."""

    @fnn.compact
    def __call__(self, x):
        blocks = fnn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH
        )
        return fnn.Dense(3)(blocks()(x, None)[0])


class Ensemble(nn.Module):
    """Equal networks that read the same input, side by side; their outputs are stacked."""

    def __init__(self):
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, 3)) for _ in range(EXPERTS)
        )

    def forward(self, x):
        return torch.stack([member(x) for member in self.members])


def ensemble(p, x):
    """The same by einsum."""
    y = jnp.tanh(jnp.einsum("bi,eio->ebo", x, p["a"]) + p["b"][:, None])
    return jnp.einsum("ebi,eio->ebo", y, p["c"]) + p["d"][:, None]


class Member(fnn.Module):
    """A network of an ensemble."""

    @fnn.compact
    def __call__(self, x):
        return fnn.Dense(3)(jnp.tanh(fnn.Dense(8)(x)))


class Vmapped(fnn.Module):
    """The same by a vmap of linen."""

    @fnn.compact
    def __call__(self, x):
        members = fnn.vmap(
            Member,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=EXPERTS,
        )
        return members()(x)


class Pairs(eqx.Module):
    """Two layers of Equinox."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __init__(self, key):
        self.first, self.second = eqx.nn.Linear(WIDTH, 8, key=key), eqx.nn.Linear(8, 3, key=key)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


class Members(eqx.Module):
    """The same by a vmap of Equinox."""

    members: Pairs

    def __init__(self):
        self.members = eqx.filter_vmap(Pairs)(jax.random.split(jax.random.key(0), EXPERTS))

    def __call__(self, x):
        run = eqx.filter_vmap(lambda member, x: jax.vmap(member)(x), in_axes=(0, None))
        return run(self.members, x)


class Mixture(nn.Module):
    """A mixture of equal experts, weighted by a gate, made in another order than they are used."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(WIDTH, EXPERTS)
        self.second = nn.ModuleList(nn.Linear(8, 3) for _ in range(EXPERTS))
        self.first = nn.ModuleList(nn.Linear(WIDTH, 8) for _ in range(EXPERTS))

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        y = torch.stack([self.second[at](F.relu(self.first[at](x))) for at in (2, 0, 3, 1)], -1)
        return (y * weights[:, None, [2, 0, 3, 1]]).sum(-1)


def mixture(p, x):
    weights = jax.nn.softmax(x @ p["g"] + p["h"], -1)
    y = jax.nn.relu(jnp.einsum("bi,eio->beo", x, p["a"]) + p["b"])
    y = jnp.einsum("bei,eio->beo", y, p["c"]) + p["d"]
    return jnp.einsum("beo,be->bo", y, weights)


class Branches(nn.Module):
    """Two equal branches with different activations, a third with a gradient alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.d, self.e = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 3)
        self.unused = nn.Linear(WIDTH, 7)

    def forward(self, x):
        y = torch.sigmoid(self.a(x)) * torch.tanh(self.b(x)) + torch.relu(self.c(x))
        return self.d(y) - self.e(torch.sin(y))


def branches(p, x):
    relu, tanh, gate = (x @ p[name] + p[f"{name}b"] for name in ("p", "q", "r"))
    y = jax.nn.relu(relu) + jnp.tanh(tanh) * jax.nn.sigmoid(gate)
    return (y @ p["t"] + p["tb"]) - (jnp.sin(y) @ p["s"] + p["sb"])


BRANCHES = {
    **{name: (WIDTH, WIDTH) for name in "qpr"}, **{name: (WIDTH, 3) for name in "st"},
    **{f"{name}b": (WIDTH,) for name in "qpr"}, **{f"{name}b": (3,) for name in "st"},
}  # fmt: skip
MEMBERS = {"a": (EXPERTS, WIDTH, 8), "b": (EXPERTS, 8), "c": (EXPERTS, 8, 3), "d": (EXPERTS, 3)}
PAIRS = {
    "blocks in a scan": Pair(Deep, function(scanned, **STACKED, **HEAD), ROWS),
    "blocks in a scan of linen": Pair(Deep, Scanned, ROWS, is_slow=True),
    "equal blocks in a list without names": Pair(Deep, function(listed, **LISTED, **HEAD), ROWS),
    "an ensemble by einsum": Pair(Ensemble, function(ensemble, **MEMBERS), ROWS),
    "an ensemble by a vmap of linen": Pair(Ensemble, Vmapped, ROWS),
    "an ensemble by a vmap of Equinox": Pair(Ensemble, Members, ROWS, is_slow=True),
    "a mixture of equal experts": Pair(
        Mixture, function(mixture, g=(WIDTH, EXPERTS), h=(EXPERTS,), **MEMBERS), ROWS
    ),
    "equal branches, and a layer that nothing uses": Pair(
        Branches, function(branches, **BRANCHES), ROWS, alone=(2, 0)
    ),
}
