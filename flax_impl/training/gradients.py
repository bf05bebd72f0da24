"""Clipping of gradients."""

import jax
import jax.numpy as jnp

from flax_impl.device import PyTree
from pipeline.config.train import TrainConfig


def clip_gradients(gradients: PyTree, norm: jax.Array, train: TrainConfig) -> PyTree:
    """Scale gradients to `train.clip_norm`, or clamp them to `train.clip_value`.

    The factor is min(1, limit / (norm + 1e-6)), as in torch.nn.utils.clip_grad_norm_; optax lacks the 1e-6.
    """
    if train.clip_norm is not None:
        factor = jnp.minimum(1.0, train.clip_norm / (norm + 1e-6))
        return jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients)
    if train.clip_value is not None:
        limit = train.clip_value
        return jax.tree.map(lambda gradient: jnp.clip(gradient, -limit, limit), gradients)
    return gradients
