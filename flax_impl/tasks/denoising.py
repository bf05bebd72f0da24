"""Denoising: the noise that was added to an image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flax_impl.device import Device, PyTree
from flax_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.data.dataset import Data
from pipeline.tasks import Denoising


class DenoisingLoss(TaskLoss[Denoising]):
    """Mean squared error of the noise that a model predicts from the noisy image and its level."""

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        super().__init__(data, device, smoothing)
        self.kept = jnp.asarray(self.task.kept_signal(), self.dtype)

    def outputs(
        self, apply_fn: Callable, variables: PyTree, batch: Batch, **options: PyTree
    ) -> PyTree:
        """Return the predicted noise."""
        kept = self.kept[batch["time"]].reshape(-1, 1, 1, 1)
        noisy = jnp.sqrt(kept) * batch["image"] + jnp.sqrt(1 - kept) * batch["noise"]
        return self.call(apply_fn, variables, noisy, batch["time"], **options)

    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sum."""
        error = jnp.square(outputs - batch["noise"]).mean(axis=(1, 2, 3))
        return [(error * counted).sum()]
