"""Lion: the sign of a momentum."""

from typing import Any

import optax

from pipeline.config import LionConfig


def lion(
    config: LionConfig, decay: optax.GradientTransformation, **options: Any
) -> optax.GradientTransformation:
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms")."""
    return optax.chain(optax.scale_by_lion(*config.betas), decay)
