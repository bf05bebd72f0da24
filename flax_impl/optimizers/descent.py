"""Gradient descent, and variants that use only squared gradients or the sign of a momentum."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import optax

from flax_impl.optimizers.base import make_optimizer
from pipeline.config import optimizers

Transformation = optax.GradientTransformation

AdagradState = namedtuple("AdagradState", "count sum")


def sgd(config: optimizers.SGDConfig, decay: Transformation) -> Transformation:
    """Gradient descent with momentum; weight decay is added to the gradient."""
    return optax.chain(decay, _momentum(config.momentum, config.nesterov))


def rmsprop(config: optimizers.RMSpropConfig, decay: Transformation) -> Transformation:
    """RMSprop (Hinton 2012, lecture 6e); with `centered` as in Graves 2013."""
    kind = optax.scale_by_stddev if config.centered else optax.scale_by_rms
    scale = kind(decay=config.alpha, eps=config.eps, eps_in_sqrt=False)
    return optax.chain(decay, scale, _momentum(config.momentum))


def adagrad(config: optimizers.AdagradConfig, decay: Transformation) -> Transformation:
    """Adagrad (Duchi, Hazan & Singer 2011).

    optax adds ε inside the root, and has no decay of the learning rate.
    """

    def step(time: jax.Array, gradient: jax.Array, total: jax.Array) -> tuple[jax.Array, ...]:
        total = total + gradient * gradient
        slower = 1 + (time - 1) * config.lr_decay
        return gradient / (jnp.sqrt(total) + config.eps) / slower, total

    scale = make_optimizer(AdagradState, step, config.initial_accumulator_value)
    return optax.chain(decay, scale)


def adadelta(config: optimizers.AdadeltaConfig, decay: Transformation) -> Transformation:
    """Adadelta (Zeiler 2012)."""
    return optax.chain(decay, optax.scale_by_adadelta(config.rho, config.eps))


def lion(config: optimizers.LionConfig, decay: Transformation) -> Transformation:
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms")."""
    return optax.chain(optax.scale_by_lion(config.betas[0], config.betas[1]), decay)


def _momentum(share: float | jax.Array, nesterov: bool = False) -> Transformation:
    """Momentum before the learning rate, so that a schedule does not change past updates.

    It is an array if several runs train at once that differ in it.
    """
    is_off = isinstance(share, int | float) and not share
    return optax.identity() if is_off else optax.trace(share, nesterov)  # pyrefly: ignore[bad-argument-type] takes arrays
