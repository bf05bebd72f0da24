"""The state of a training."""

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state

from flax_impl.device import PyTree
from flax_impl.vectorized.number import Number, typed


class TrainState(train_state.TrainState):
    """Flax's training state, with running statistics and an average of the weights.

    Only here: Lightning's `TrainingModule` is state and steps in one.
    """

    tx: optax.GradientTransformationExtraArgs = struct.field(pytree_node=False)  # pyrefly: ignore[bad-override-mutable-attribute] its update takes the learning rate
    batch_stats: PyTree = struct.field(default_factory=dict)
    averages: PyTree = None  # None without `train.ema`

    def updated(
        self,
        grads: PyTree,
        learning_rate: jax.Array,
        ema: float | Number | None,
        **changes: PyTree,
    ) -> "TrainState":
        """Update the weights and their average, whose first value is a copy, as in torch."""
        updates, opt_state = self.tx.update(
            grads, self.opt_state, self.params, learning_rate=learning_rate
        )
        params = optax.apply_updates(self.params, updates)
        averages = self.averages
        if ema is not None:
            share = jnp.where(self.step == 0, 1.0, typed(1 - ema, jnp.result_type(float)))
            averages = jax.tree.map(
                lambda a, p: a + share.astype(a.dtype) * (p - a), averages, params
            )
        return self.replace(
            step=self.step + 1, params=params, opt_state=opt_state, averages=averages, **changes
        )
