"""Small models in linen: mlp, lstm, gru."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.verify_mutants.linen_side.layers import (
    Table,
    activate,
    cross_entropy,
    dense,
    drop,
    norm,
    stop,
)
from benchmarks.verify_mutants.settings import CLASSES, HIDDEN, VOCABULARY, WIDTH, Plan, Settings


class Mlp(nn.Module):
    """A multilayer perceptron with noise, a residual layer and a norm, and its loss."""

    plan: Plan

    @nn.compact
    def __call__(
        self, x: jax.Array, labels: jax.Array, train: bool = False
    ) -> dict[str, jax.Array]:
        """Features `[batch, 12]` and labels to logits and loss."""
        s = self.plan.whole
        if train:
            x = x + s.noise * jax.random.normal(self.make_rng("noise"), x.shape)
        x = activate(dense(HIDDEN, s, "fc1 bias" not in s.missing, "Dense_0")(x), s)
        x = drop(self, x, "hidden", s, train)
        if "minus batch mean" in s.extra:
            x = x - x.mean(0)
        second = dense(HIDDEN, s, "fc2 bias" not in s.missing, "Dense_1")
        y = nn.sigmoid(second(x))
        if "second layer twice" in s.extra:
            y = nn.sigmoid(second(y))
        x = y if "residual" in s.missing else s.residual_factor * stop(x, "residual", s) + y
        x = x if "final norm" in s.missing else norm(s, "ln_out")(x)
        x = stop(x, "features", s)
        logits = dense(CLASSES, s, "head bias" not in s.missing, "classifier")(x)
        if "log softmax" in s.extra:
            logits = nn.log_softmax(logits)
        return {"logits": logits, "loss": cross_entropy(logits, labels, s)}


class Recurrent(nn.Module):
    """Embedded tokens, a recurrent layer, and a classifier of its last state."""

    plan: Plan
    gates: int = 4

    def setup(self) -> None:
        """Make the layers."""
        self.embed = Table(VOCABULARY, WIDTH, self.plan.whole)
        self.classifier = nn.Dense(CLASSES)
        if self.plan.whole.cell == "library":
            cell = nn.GRUCell if self.gates == 3 else nn.OptimizedLSTMCell
            self.cell = nn.RNN(cell(WIDTH))
            return
        self.from_input = nn.Dense(self.gates * WIDTH)
        self.from_state = nn.Dense(self.gates * WIDTH, use_bias=self.gates == 3)

    @nn.compact
    def __call__(self, ids: jax.Array, train: bool = False) -> jax.Array:
        """Tokens `[batch, length]` to logits."""
        s = self.plan.whole
        x = drop(self, self.embed(ids), "embedding", s, train)
        if s.direction == "backward":
            x = x[:, ::-1]
        if s.cell == "library":
            return self.classifier(drop(self, self.cell(x)[:, -1], "head", s, train))
        h = jnp.full((len(x), WIDTH), s.carry, x.dtype)
        c = h
        if s.stacked:
            step = nn.scan(
                lambda module, carry, token: (module.step(token, *carry), carry[0]),
                variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1,
            )  # fmt: skip
            (h, c), _ = step(self, (h, c), x)
            return self.classifier(drop(self, h, "head", s, train))
        states = []
        for index in range(x.shape[1]):
            h, c = self.step(x[:, index], stop(h, "carry", s), c)
            states.append(h)
        if s.pool == "mean":
            h = jnp.stack(states, 1).mean(1)
        h = c if s.output == "cell" else h
        return self.classifier(drop(self, h, "head", s, train))

    def step(self, x: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Take a token; `h` and `c` are `[batch, width]`."""
        raise NotImplementedError


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    def step(self, x: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Take a token."""
        s = self.plan.whole
        i, f, g, o = jnp.split(self.from_input(x) + self.from_state(h), 4, -1)
        if s.gates == "exchanged":
            i, f = f, i
        c = gate(f + s.forget, s) * c + gate(i, s) * jnp.tanh(g)
        return gate(o, s) * (c if "output tanh" in s.missing else jnp.tanh(c)), c


class Gru(Recurrent):
    """A gated recurrent unit (Cho et al. 2014), with torch's place of the reset gate."""

    gates: int = 3

    def step(self, x: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Take a token."""
        s = self.plan.whole
        r, z, n = jnp.split(self.from_input(x), 3, -1)
        hr, hz, hn = jnp.split(self.from_state(h), 3, -1)
        r, z = gate(r + hr, s), gate(z + hz, s)
        if s.reset == "after":
            n = jnp.tanh(n + r * hn)
        else:
            n = jnp.tanh(n + jnp.split(self.from_state(r * h), 3, -1)[2])
        h = z * n + (1 - z) * h if s.gates == "exchanged" else (1 - z) * n + z * h
        return h, h


def gate(x: jax.Array, s: Settings) -> jax.Array:
    """Openness of a gate."""
    if s.activation != "none":
        return activate(x, s)
    return 1 / (1 + jnp.exp(-x)) if s.formula == "manual" else nn.sigmoid(x)
