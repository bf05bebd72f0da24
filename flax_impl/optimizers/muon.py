"""Muon: orthogonal updates for the matrices of hidden layers, AdamW for the rest."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flax_impl.optimizers.adam import scale_by_adam
from flax_impl.optimizers.own import lerp, own
from pipeline.config import MuonConfig
from pipeline.groups import Group

# Of the polynomial a X + b XXᵀX + c (XXᵀ)²X, steep at zero (Jordan 2024, github.com/KellerJordan/Muon).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)

Layout = tuple[tuple[int, ...], tuple[int, ...]]


def muon(
    config: MuonConfig,
    decay: optax.GradientTransformation,
    groups: Any,
    layouts: Any = None,
    **options: Any,
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024; Liu et al. 2025, "Muon is Scalable for LLM Training")."""
    matrices = jax.tree.map(lambda group: group.matrix, groups)
    others = jax.tree.map(lambda group: not (group.matrix or group.frozen), groups)
    return optax.chain(
        optax.masked(average_gradients(config), matrices),
        orthogonalise(config, groups, layouts),
        optax.masked(scale_by_adam(config), others),
        decay,
    )


class MuonState(NamedTuple):
    """Slots by torch's names."""

    count: jax.Array
    momentum_buffer: optax.Params


def average_gradients(config: MuonConfig) -> optax.GradientTransformation:
    """A moving average of the gradients, looking ahead if asked for, as in torch.optim.Muon."""

    def step(t: jax.Array, g: jax.Array, average: jax.Array) -> tuple[jax.Array, ...]:
        average = lerp(average, g, 1 - config.momentum)
        return lerp(g, average, config.momentum) if config.nesterov else average, average

    return own(MuonState, step)


def orthogonalise(config: MuonConfig, groups: Any, layouts: Any) -> optax.GradientTransformation:
    """Make the updates of matrices orthogonal, in the canonical layout."""

    def leaf(group: Group, update: jax.Array, layout: Layout | None = None) -> jax.Array:
        if not group.matrix:
            return update
        folded, axes = layout or (update.shape, tuple(range(update.ndim)))
        canonical = jnp.transpose(update.reshape(folded), axes)
        matrix = orthogonal(canonical.reshape(len(canonical), -1), config.ns_steps)
        matrix = matrix * config.adjust_lr_fn.factor(*matrix.shape)
        back = jnp.transpose(matrix.reshape(canonical.shape), np.argsort(axes))
        return back.reshape(update.shape)

    trees = () if layouts is None else (layouts,)
    return optax.stateless(lambda updates, params: jax.tree.map(leaf, groups, updates, *trees))


def orthogonal(matrix: jax.Array, steps: int) -> jax.Array:
    """UVᵀ of a matrix UΣVᵀ, roughly: its singular values end between 0.7 and 1.2.

    Newton-Schulz iterations (Jordan 2024) in the matrix's own number type.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / jnp.maximum(jnp.linalg.norm(wide), 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
