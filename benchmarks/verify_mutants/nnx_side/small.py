"""A multilayer perceptron in NNX."""

import jax
from flax import nnx

from benchmarks.verify_mutants.linen_side.layers import activate, cross_entropy, stop
from benchmarks.verify_mutants.settings import CLASSES, HIDDEN, Plan


class Mlp(nnx.Module):
    """A multilayer perceptron with noise, a residual layer and a norm, and its loss."""

    def __init__(self, plan: Plan) -> None:
        self.s, rngs = plan.whole, nnx.Rngs(0)
        self.Dense_0 = nnx.Linear(12, HIDDEN, rngs=rngs)
        self.Dense_1 = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        self.ln_out = nnx.LayerNorm(
            HIDDEN, epsilon=self.s.epsilon, use_fast_variance=False, rngs=rngs
        )
        self.classifier = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)
        rate = self.s.dropout if "hidden" in self.s.dropouts else 0.0
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        """Features `[batch, 12]` and labels to logits and loss."""
        s = self.s
        if not self.dropout.deterministic:
            x = x + s.noise * jax.random.normal(self.dropout.rngs(), x.shape)
        x = self.dropout(activate(self.Dense_0(x), s))
        if "minus batch mean" in s.extra:
            x = x - x.mean(0)
        y = nnx.sigmoid(self.Dense_1(x))
        x = y if "residual" in s.missing else s.residual_factor * x + y
        logits = self.classifier(stop(self.ln_out(x), "features", s))
        return {"logits": logits, "loss": cross_entropy(logits, labels, s)}
