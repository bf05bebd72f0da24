"""The optimizers, by the names of the `optimizer` config group: torch's semantics, in optax's parts.

Each is a chain that ends before the learning rate, which the training step gives: it is an argument of
the compiled step, so that a sweep over it compiles once.
"""

from collections.abc import Callable
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pipeline.config import AdamConfig, OptimizerConfig, SGDConfig


def sgd(config: SGDConfig) -> optax.GradientTransformation:
    """Gradient descent with momentum; weight decay is added to the gradient."""
    momentum = (
        optax.trace(config.momentum, config.nesterov) if config.momentum else optax.identity()
    )
    return optax.chain(optax.add_decayed_weights(config.weight_decay), momentum)


def adam(config: AdamConfig) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    return optax.chain(optax.add_decayed_weights(config.weight_decay), scale_by_adam(config))


def adamw(config: AdamConfig) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optax.chain(scale_by_adam(config), optax.add_decayed_weights(config.weight_decay))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


def build_optimizer(
    config: OptimizerConfig, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """An optimizer; its updates are still to be scaled by the learning rate and subtracted.

    Args:
        config: of the `optimizer` group.
        clip_norm: bound on the gradients' global norm. Only here: Lightning's step clips on its own.
    """
    clip = optax.identity() if clip_norm is None else clip_by_global_norm(clip_norm)
    return optax.chain(clip, OPTIMIZERS[config.name](config))


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Scale gradients by min(1, limit / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.

    optax.clip_by_global_norm lacks the 1e-6.
    """

    def clip(gradients: optax.Updates, params: optax.Params | None) -> optax.Updates:
        factor = jnp.minimum(1.0, limit / (optax.tree.norm(gradients) + 1e-6))
        return jax.tree.map(lambda gradient: gradient * factor, gradients)

    return optax.stateless(clip)


def scale_by_adam(config: AdamConfig) -> optax.GradientTransformation:
    """Adam's direction (Kingma & Ba 2015, algorithm 1), with an exact bias correction.

    optax computes 1 - βᵗ in float32, which costs 1e-5 at β = 0.999; -expm1(t·log β), with the
    logarithm in double precision, keeps all digits.
    """
    beta1, beta2 = config.betas
    log1, log2 = (log(beta) if beta else -float("inf") for beta in config.betas)

    def init(params: optax.Params) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(
            jnp.zeros([], jnp.int32), zeros, jax.tree.map(jnp.copy, zeros)
        )

    def update(
        gradients: optax.Updates, state: optax.ScaleByAdamState, params: Any = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: m + (1 - beta1) * (g - m), state.mu, gradients)
        nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.nu, gradients)

        def direction(m: jax.Array, v: jax.Array) -> jax.Array:
            time = count.astype(m.dtype)
            correction1, correction2 = -jnp.expm1(time * log1), -jnp.expm1(time * log2)
            return m / correction1 / (jnp.sqrt(v) / jnp.sqrt(correction2) + config.eps)

        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
