"""Adam and its kin: a first and a second moment of the gradient, corrected for their bias."""

from math import log
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flax_impl.optimizers.own import correction, lerp, own
from pipeline.config import (
    AdamaxConfig,
    AdamConfig,
    AdamWConfig,
    AMSGradConfig,
    NAdamConfig,
    RAdamConfig,
)

Transformation = optax.GradientTransformation


def adam(config: AdamConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    return optax.chain(decay, scale_by_adam(config))


def adamw(config: AdamWConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optax.chain(scale_by_adam(config), decay)


def amsgrad(config: AMSGradConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adam with the largest second moment so far (Reddi, Kale & Kumar 2018)."""
    return with_decay(scale_by_amsgrad(config), decay, config.decoupled_weight_decay)


def adamax(config: AdamaxConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adam with the largest gradient as second moment (Kingma & Ba 2015, algorithm 2)."""
    return optax.chain(decay, scale_by_adamax(config))


def nadam(config: NAdamConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adam with Nesterov's momentum (Dozat 2016)."""
    return with_decay(scale_by_nadam(config), decay, config.decoupled_weight_decay)


def radam(config: RAdamConfig, decay: Transformation, **options: Any) -> Transformation:
    """Adam with a rectified second moment (Liu et al. 2020)."""
    return with_decay(scale_by_radam(config), decay, config.decoupled_weight_decay)


class AdamState(NamedTuple):
    """Slots by torch's names."""

    count: jax.Array
    exp_avg: optax.Params
    exp_avg_sq: optax.Params


class AMSGradState(NamedTuple):
    """Slots by torch's names."""

    count: jax.Array
    exp_avg: optax.Params
    exp_avg_sq: optax.Params
    max_exp_avg_sq: optax.Params


class AdamaxState(NamedTuple):
    """Slots by torch's names."""

    count: jax.Array
    exp_avg: optax.Params
    exp_inf: optax.Params


def scale_by_adam(config: AdamConfig) -> Transformation:
    """Adam's direction (Kingma & Ba 2015, algorithm 1), with an exact bias correction."""
    (beta1, beta2), eps = config.betas, config.eps

    def step(t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        root = jnp.sqrt(v) / jnp.sqrt(correction(beta2, t)) + eps
        return m / correction(beta1, t) / root, m, v

    return own(AdamState, step)


def scale_by_amsgrad(config: AMSGradConfig) -> Transformation:
    """Reddi, Kale & Kumar 2018, algorithm 2; as in torch the largest is that of raw moments.

    optax.scale_by_amsgrad keeps the largest corrected moment.
    """
    (beta1, beta2), eps = config.betas, config.eps

    def step(
        t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array, largest: jax.Array
    ) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        largest = jnp.maximum(largest, v)
        root = jnp.sqrt(largest) / jnp.sqrt(correction(beta2, t)) + eps
        return m / correction(beta1, t) / root, m, v, largest

    return own(AMSGradState, step)


def scale_by_adamax(config: AdamaxConfig) -> Transformation:
    """Kingma & Ba 2015, algorithm 2, with torch's ε beside every gradient."""
    (beta1, beta2), eps = config.betas, config.eps

    def step(t: jax.Array, g: jax.Array, m: jax.Array, u: jax.Array) -> tuple[jax.Array, ...]:
        m, u = lerp(m, g, 1 - beta1), jnp.maximum(beta2 * u, jnp.abs(g) + eps)
        return m / (correction(beta1, t) * u), m, u

    return own(AdamaxState, step)


def scale_by_nadam(config: NAdamConfig) -> Transformation:
    """Dozat 2016, algorithm 8, with the growing momentum that optax.nadam lacks."""
    (beta1, beta2), decay = config.betas, config.momentum_decay

    def step(t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        root = jnp.sqrt(v) / jnp.sqrt(correction(beta2, t)) + config.eps
        mu, mu_next = momentum(t, beta1, decay), momentum(t + 1, beta1, decay)
        product = momentum_product(t, beta1, decay)
        now, after = (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)
        return (now * g + after * m) / root, m, v

    return own(AdamState, step)


def scale_by_radam(config: RAdamConfig) -> Transformation:
    """Liu et al. 2020, algorithm 2; as in torch ε is added to the second moment's raw root."""
    (beta1, beta2), eps = config.betas, config.eps
    longest = 2 / (1 - beta2) - 1

    def step(t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        rho = average_length(t, beta2)
        rectify = jnp.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        adapted = jnp.sqrt(correction(beta2, t)) / (jnp.sqrt(v) + eps) * rectify
        return m / correction(beta1, t) * jnp.where(rho > 5, adapted, 1), m, v

    return own(AdamState, step)


def momentum(step: jax.Array, beta: float, decay: float) -> jax.Array:
    """μₜ = β (1 - 0.96^(t·ψ) / 2) (Dozat 2016, section 3.1)."""
    return beta * (1 - 0.5 * jnp.exp(step * (decay * log(0.96))))


def momentum_product(step: jax.Array, beta: float, decay: float) -> jax.Array:
    """μ₁ μ₂ … μₜ as a function of t alone.

    With q = 0.96^ψ its logarithm is t log β + Σᵢ log(1 - qⁱ/2), and log(1 - x) = -Σₖ xᵏ/k makes that
    a sum of geometric series: -Σₖ (1 - qᵏᵗ) / (q⁻ᵏ - 1) / (k 2ᵏ). Fifty terms have all of a double's
    digits.
    """
    if not beta:
        return jnp.zeros_like(step)
    if not decay:
        return jnp.exp(step * log(beta / 2))
    k, rate = np.arange(1, 51), -decay * log(0.96)
    shares = jnp.asarray(1 / np.expm1(k * rate) / (k * 2.0**k), step.dtype)
    terms = jnp.expm1(jnp.asarray(-k * rate, step.dtype) * step) * shares
    return jnp.exp(step * log(beta) + terms.sum())


def average_length(time: jax.Array, beta: float) -> jax.Array:
    """ρₜ = ρ∞ - 2t βᵗ / (1 - βᵗ) (Liu et al. 2020, section 4.2), without its cancellation.

    With x = -t log β it is ρ∞ + 2/log β - 2/log β (1 - x / (eˣ - 1)); of small x the last bracket is
    x/2 - x²/12 + x⁴/720 - …, with Bernoulli's numbers. torch has a double for it, a float32 would lose
    four digits in the first steps.
    """
    # beta=0: no length ever exceeds 5.
    rate = -log(beta) if beta else jnp.inf
    x = time * rate
    bernoulli = (
        x / 2,
        -(x**2) / 12,
        x**4 / 720,
        -(x**6) / 30240,
        x**8 / 1209600,
        -(x**10) / 47900160,
    )
    bracket = jnp.where(x < 0.25, sum(bernoulli), 1 - x / jnp.expm1(x))
    return 2 / (1 - beta) - 1 - 2 / rate + 2 / rate * bracket


def with_decay(scale: Transformation, decay: Transformation, decoupled: bool) -> Transformation:
    """Weight decay behind a transformation if decoupled, else before it, added to the gradient."""
    return optax.chain(scale, decay) if decoupled else optax.chain(decay, scale)
