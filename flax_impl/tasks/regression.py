"""Regression: one or more numbers for each sample."""

import jax
import jax.numpy as jnp

from flax_impl.device import Device
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.data.dataset import Data
from pipeline.tasks.regression import center


class RegressionLoss(TaskLoss):
    """Mean squared error of predictions `[batch, outputs]`, and sums for the mae and r2."""

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        super().__init__(data, device, smoothing)
        self.center = jnp.asarray(center(data.train.arrays["target"]), self.dtype)

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of `Task.sums`."""
        error, deviation = outputs - batch["target"], batch["target"] - self.center
        error, deviation = error * counted[:, None], deviation * counted[:, None]
        return [
            jnp.square(error).mean(axis=-1).sum(),
            jnp.abs(error).sum(),
            deviation.sum(),
            jnp.square(deviation).sum(),
        ]

    def per_sample(self, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Return the outputs."""
        return {"outputs": outputs}
