"""LAMB: Adam's updates, each scaled to the norm of its weights."""

from typing import Any

import optax

from flax_impl.optimizers.adam import scale_by_adam
from pipeline.config import LambConfig


def lamb(
    config: LambConfig, decay: optax.GradientTransformation, **options: Any
) -> optax.GradientTransformation:
    """LAMB (You et al. 2020, "Large Batch Optimization for Deep Learning")."""
    return optax.chain(scale_by_adam(config), decay, optax.scale_by_trust_ratio())
