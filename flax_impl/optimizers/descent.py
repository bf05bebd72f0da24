"""Gradient descent, and its relatives that know only squared gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flax_impl.optimizers.own import own
from pipeline.config import AdadeltaConfig, AdagradConfig, RMSpropConfig, SGDConfig

Transformation = optax.GradientTransformation


def sgd(config: SGDConfig, decay: Transformation, **options: Any) -> Transformation:
    """Gradient descent with momentum; weight decay is added to the gradient."""
    return optax.chain(decay, momentum(config.momentum, config.nesterov))


def rmsprop(config: RMSpropConfig, decay: Transformation, **options: Any) -> Transformation:
    """RMSprop (Hinton 2012, lecture 6e), centred as in Graves 2013 if asked for."""
    kind = optax.scale_by_stddev if config.centered else optax.scale_by_rms
    scale = kind(decay=config.alpha, eps=config.eps, eps_in_sqrt=False)
    return optax.chain(decay, scale, momentum(config.momentum))


def adagrad(config: AdagradConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adagrad (Duchi, Hazan & Singer 2011)."""
    return optax.chain(decay, scale_by_adagrad(config))


def adadelta(config: AdadeltaConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adadelta (Zeiler 2012)."""
    return optax.chain(decay, optax.scale_by_adadelta(config.rho, config.eps))


class AdagradState(NamedTuple):
    """Slots by torch's names."""

    count: jax.Array
    sum: optax.Params


def scale_by_adagrad(config: AdagradConfig) -> Transformation:
    """Adagrad's direction; optax adds ε below the root, and has no decay of the learning rate."""

    def step(time: jax.Array, gradient: jax.Array, total: jax.Array) -> tuple[jax.Array, ...]:
        total = total + gradient * gradient
        slower = 1 + (time - 1) * config.lr_decay
        return gradient / (jnp.sqrt(total) + config.eps) / slower, total

    return own(AdagradState, step, config.initial_accumulator_value)


def momentum(share: float, nesterov: bool = False) -> Transformation:
    """Momentum before the learning rate: a schedule does not reach into the past."""
    return optax.trace(share, nesterov) if share else optax.identity()
