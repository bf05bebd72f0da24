"""Muon: orthogonal updates for the matrices of hidden layers, AdamW for the rest."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import optax

from flax_impl.device import PyTree
from flax_impl.optimizers.adam import scale_by_adam
from flax_impl.optimizers.base import lerp, make_optimizer
from pipeline.config.optimizers import MuonConfig
from pipeline.training.param_groups import ParamGroup
from pipeline.verify.names.notation import Transform

# Coefficients of a X + b XXᵀX + c (XXᵀ)²X, steep at zero (Jordan 2024, github.com/KellerJordan/Muon).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)

Layout = tuple[Transform, Transform]  # to the canonical layout, and back


MuonState = namedtuple("MuonState", "count momentum_buffer")


def muon(
    config: MuonConfig, decay: optax.GradientTransformation, groups: PyTree, layouts: PyTree = None
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024; Liu et al. 2025, "Muon is Scalable for LLM Training")."""
    matrices = jax.tree.map(lambda group: group.matrix, groups)
    others = jax.tree.map(lambda group: not (group.matrix or group.frozen), groups)
    return optax.chain(
        optax.masked(_average_gradients(config), matrices),
        _orthogonalise(config, groups, layouts),
        optax.masked(scale_by_adam(config), others),
        decay,
    )


def _average_gradients(config: MuonConfig) -> optax.GradientTransformation:
    """Moving average of the gradients, with Nesterov's look-ahead if configured, as in torch.optim.Muon."""

    def step(t: jax.Array, g: jax.Array, average: jax.Array) -> tuple[jax.Array, ...]:
        average = lerp(average, g, 1 - config.momentum)
        return lerp(g, average, config.momentum) if config.nesterov else average, average

    return make_optimizer(MuonState, step)


def _orthogonalise(
    config: MuonConfig, groups: PyTree, layouts: PyTree
) -> optax.GradientTransformation:
    """Orthogonalise the updates of matrices, in the canonical layout."""

    def leaf(group: ParamGroup, update: jax.Array, layout: Layout | None = None) -> jax.Array:
        if not group.matrix:
            return update
        there, back = layout or (Transform(), Transform())
        canonical = there.apply(update)
        matrix = orthogonal(canonical.reshape(len(canonical), -1), config.ns_steps)
        matrix = matrix * config.adjust_lr_fn.factor(*matrix.shape)
        return back.apply(matrix.reshape(canonical.shape))

    trees = () if layouts is None else (layouts,)
    return optax.stateless(lambda updates, params: jax.tree.map(leaf, groups, updates, *trees))


def orthogonal(matrix: jax.Array, steps: int) -> jax.Array:
    """Approximate UVᵀ of a matrix UΣVᵀ: its singular values end between 0.7 and 1.2.

    Newton-Schulz iterations (Jordan 2024) in the matrix's own dtype.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / jnp.maximum(jnp.linalg.norm(wide), 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
