"""A recurrent network in Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.verify_mutants.linen_side.layers import stop
from benchmarks.verify_mutants.settings import CLASSES, VOCABULARY, WIDTH, Plan, Settings


class Lstm(eqx.Module):
    """Embedded tokens, long short-term memory, and a classifier of its last state."""

    embed: eqx.nn.Embedding
    cell: eqx.nn.LSTMCell
    classifier: eqx.nn.Linear
    drop_in: eqx.nn.Dropout
    drop_out: eqx.nn.Dropout
    s: Settings = eqx.field(static=True)

    def __init__(self, plan: Plan) -> None:
        self.s, keys = plan.whole, jax.random.split(jax.random.key(0), 3)
        self.embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
        self.cell = eqx.nn.LSTMCell(WIDTH, WIDTH, key=keys[1])
        self.classifier = eqx.nn.Linear(WIDTH, CLASSES, key=keys[2])
        self.drop_in, self.drop_out = (
            eqx.nn.Dropout(self.s.dropout if place in self.s.dropouts else 0.0)
            for place in ("embedding", "head")
        )

    def __call__(self, ids: jax.Array, *, key: jax.Array) -> jax.Array:
        """Tokens `[length]` to logits."""
        first, second = jax.random.split(key)
        x = self.drop_in(jax.vmap(self.embed)(ids), key=first)
        if self.s.direction == "backward":
            x = x[::-1]
        h = c = jnp.full(WIDTH, self.s.carry)
        for token in x:
            h, c = self.cell(token, (stop(h, "carry", self.s), c))
        h = c if self.s.output == "cell" else h
        return self.classifier(self.drop_out(h, key=second))
