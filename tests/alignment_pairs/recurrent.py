"""Recurrent layers: gates in other orders, fused and apart, with one bias or two."""

import equinox as eqx
import flax.linen as fnn
import jax
import jax.numpy as jnp
from flax import nnx
from torch import nn

from alignment_pairs.pair import Pair, function

WIDTH, FEATURES = 6, 4
SEQUENCES = (3, 5, FEATURES)


class Recurrent(nn.Module):
    """A recurrent layer of torch and a classifier of its last state."""

    def __init__(self, kind, **options):
        super().__init__()
        self.cell = kind(FEATURES, WIDTH, batch_first=True, **options)
        self.head = nn.Linear(WIDTH * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def lstm(**options):
    return lambda: Recurrent(nn.LSTM, **options)


def gru():
    return Recurrent(nn.GRU)


class Linen(fnn.Module):
    """The same with cells of linen."""

    cells: tuple

    @fnn.compact
    def __call__(self, x):
        for cell in self.cells:
            x = fnn.RNN(cell)(x)
        return fnn.Dense(3)(x[:, -1])


class BothWays(fnn.Module):
    """A layer in both directions."""

    @fnn.compact
    def __call__(self, x):
        x = fnn.Bidirectional(fnn.RNN(fnn.LSTMCell(WIDTH)), fnn.RNN(fnn.LSTMCell(WIDTH)))(x)
        return fnn.Dense(3)(x[:, -1])


class Nnx(nnx.Module):
    """The same with a cell of NNX."""

    def __init__(self, kind):
        rngs = nnx.Rngs(0)
        self.head = nnx.Linear(WIDTH, 3, rngs=rngs)
        self.rnn = nnx.RNN(kind(FEATURES, WIDTH, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


class Equinox(eqx.Module):
    """The same with a cell of Equinox."""

    head: eqx.nn.Linear
    cell: eqx.Module

    def __init__(self, kind):
        keys = jax.random.split(jax.random.key(0))
        self.head, self.cell = (
            eqx.nn.Linear(WIDTH, 3, key=keys[0]),
            kind(FEATURES, WIDTH, key=keys[1]),
        )

    def __call__(self, x):
        state = jnp.zeros(WIDTH)
        if isinstance(self.cell, eqx.nn.LSTMCell):
            state = (state, state)
        state, _ = jax.lax.scan(lambda state, token: (self.cell(token, state), None), state, x)
        return self.head(state[0] if isinstance(state, tuple) else state)


def in_order(order):
    """An LSTM with its gates in another order, all products at once, time in a scan."""

    def apply(p, x):
        def step(carry, token):
            h, c = carry
            parts = jnp.split(jnp.concatenate([token, h], -1) @ p["w"] + p["b"], 4, -1)
            gates = dict(zip(order, parts, strict=True))
            c = jax.nn.sigmoid(gates["f"]) * c
            c = c + jax.nn.sigmoid(gates["i"]) * jnp.tanh(gates["g"])
            return (jax.nn.sigmoid(gates["o"]) * jnp.tanh(c), c), None

        zeros = jnp.zeros((len(x), WIDTH), x.dtype)
        (h, _), _ = jax.lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
        return h @ p["h"] + p["a"]

    shapes = {"w": (FEATURES + WIDTH, 4 * WIDTH), "b": (4 * WIDTH,), "h": (WIDTH, 3), "a": (3,)}
    return function(apply, **shapes)


def gru_by_hand(p, x):
    """A GRU with a matrix for every gate, and the biases of reset and update gate in one sum."""
    h = jnp.zeros((len(x), WIDTH), x.dtype)
    for at in range(x.shape[1]):
        t = x[:, at]
        z = jax.nn.sigmoid(t @ p["wz"] + h @ p["uz"] + (p["bz"] + p["cz"]))
        r = jax.nn.sigmoid(t @ p["wr"] + h @ p["ur"] + (p["br"] + p["cr"]))
        n = jnp.tanh(t @ p["wn"] + p["bn"] + r * (h @ p["un"] + p["cn"]))
        h = (1 - z) * n + z * h
    return h @ p["h"] + p["a"]


def square(*names):
    return {name: (WIDTH, WIDTH) for name in names}


GATES = {
    **{f"w{gate}": (FEATURES, WIDTH) for gate in "nzr"},
    **square("un", "ur", "uz"),
    **{f"{kind}{gate}": (WIDTH,) for gate in "nrz" for kind in "bc"},
    "h": (WIDTH, 3),
    "a": (3,),
}
ONE = (1, 0)  # of torch's two biases
PAIRS = {
    "LSTM of torch and linen": Pair(
        lstm(), lambda: Linen((fnn.OptimizedLSTMCell(WIDTH),)), SEQUENCES, alone=ONE, is_slow=True
    ),
    "LSTM with a layer for each gate": Pair(
        lstm(), lambda: Linen((fnn.LSTMCell(WIDTH),)), SEQUENCES, alone=ONE
    ),
    "LSTM of two layers": Pair(
        lstm(num_layers=2),
        lambda: Linen((fnn.LSTMCell(WIDTH), fnn.LSTMCell(WIDTH))),
        SEQUENCES,
        alone=(2, 0),
        is_slow=True,
    ),
    "LSTM in both directions": Pair(
        lstm(bidirectional=True), BothWays, SEQUENCES, alone=(2, 0), is_slow=True
    ),
    "LSTM of NNX": Pair(lstm(), lambda: Nnx(nnx.LSTMCell), SEQUENCES, alone=ONE, is_slow=True),
    "LSTM of Equinox": Pair(lstm(), lambda: Equinox(eqx.nn.LSTMCell), SEQUENCES, alone=ONE),
    "LSTM in one product": Pair(lstm(), in_order("ifgo"), SEQUENCES, alone=ONE),
    "LSTM with its gates in another order": Pair(lstm(), in_order("fiog"), SEQUENCES, alone=ONE),
    "GRU of torch and linen": Pair(gru, lambda: Linen((fnn.GRUCell(WIDTH),)), SEQUENCES, alone=ONE),
    "GRU of Equinox": Pair(gru, lambda: Equinox(eqx.nn.GRUCell), SEQUENCES, alone=ONE),
    "GRU with a matrix for each gate": Pair(gru, function(gru_by_hand, **GATES), SEQUENCES),
}
