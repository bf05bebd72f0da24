"""Adam and its variants: first and second moments of the gradient, with bias correction."""

from collections import namedtuple
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flax_impl.optimizers.base import bias_correction, lerp, make_optimizer
from pipeline.config import optimizers

Transformation = optax.GradientTransformation

AdamState = namedtuple("AdamState", "count exp_avg exp_avg_sq")
AMSGradState = namedtuple("AMSGradState", "count exp_avg exp_avg_sq max_exp_avg_sq")
AdamaxState = namedtuple("AdamaxState", "count exp_avg exp_inf")


def adam(config: optimizers.AdamConfig, decay: Transformation) -> Transformation:
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient."""
    return optax.chain(decay, scale_by_adam(config))


def adamw(config: optimizers.AdamWConfig, decay: Transformation) -> Transformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return optax.chain(scale_by_adam(config), decay)


def amsgrad(config: optimizers.AMSGradConfig, decay: Transformation) -> Transformation:
    """Adam with the maximum of past second moments (Reddi, Kale & Kumar 2018, algorithm 2).

    As in torch the maximum is over raw moments; that of optax.scale_by_amsgrad is over corrected ones.
    """
    (beta1, beta2), eps = config.betas, config.eps

    def step(
        t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array, largest: jax.Array
    ) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        largest = jnp.maximum(largest, v)
        root = jnp.sqrt(largest) / jnp.sqrt(bias_correction(beta2, t)) + eps
        return m / bias_correction(beta1, t) / root, m, v, largest

    return _with_decay(make_optimizer(AMSGradState, step), decay, config.decoupled_weight_decay)


def adamax(config: optimizers.AdamaxConfig, decay: Transformation) -> Transformation:
    """Adam with the infinity norm instead of the second moment (Kingma & Ba 2015, algorithm 2).

    As in torch ε is added to every gradient.
    """
    (beta1, beta2), eps = config.betas, config.eps

    def step(t: jax.Array, g: jax.Array, m: jax.Array, u: jax.Array) -> tuple[jax.Array, ...]:
        m, u = lerp(m, g, 1 - beta1), jnp.maximum(beta2 * u, jnp.abs(g) + eps)
        return m / (bias_correction(beta1, t) * u), m, u

    return optax.chain(decay, make_optimizer(AdamaxState, step))


def nadam(config: optimizers.NAdamConfig, decay: Transformation) -> Transformation:
    """Adam with Nesterov's momentum (Dozat 2016, algorithm 8).

    optax.nadam lacks the schedule of the momentum.
    """
    (beta1, beta2), rate = config.betas, config.momentum_decay

    def step(t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        root = jnp.sqrt(v) / jnp.sqrt(bias_correction(beta2, t)) + config.eps
        mu, mu_next = momentum(t, beta1, rate), momentum(t + 1, beta1, rate)
        product = momentum_product(t, beta1, rate)
        now, after = (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)
        return (now * g + after * m) / root, m, v

    return _with_decay(make_optimizer(AdamState, step), decay, config.decoupled_weight_decay)


def radam(config: optimizers.RAdamConfig, decay: Transformation) -> Transformation:
    """Adam with a rectified adaptive learning rate (Liu et al. 2020, algorithm 2).

    As in torch ε is added to the root of the uncorrected second moment.
    """
    (beta1, beta2), eps = config.betas, config.eps
    longest = 2 / (1 - beta2) - 1

    def step(t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        rho = _average_length(t, beta2)
        rectify = jnp.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        adapted = jnp.sqrt(bias_correction(beta2, t)) / (jnp.sqrt(v) + eps) * rectify
        return m / bias_correction(beta1, t) * jnp.where(rho > 5, adapted, 1), m, v

    return _with_decay(make_optimizer(AdamState, step), decay, config.decoupled_weight_decay)


def lamb(config: optimizers.LambConfig, decay: Transformation) -> Transformation:
    """LAMB: Adam's updates, each scaled to the norm of its weights (You et al. 2020)."""
    return optax.chain(scale_by_adam(config), decay, optax.scale_by_trust_ratio())


def scale_by_adam(config: optimizers.AdamConfig) -> Transformation:
    """Adam's update before the learning rate (Kingma & Ba 2015, algorithm 1).

    The bias correction is exact.
    """
    (beta1, beta2), eps = config.betas, config.eps

    def step(t: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        m, v = lerp(m, g, 1 - beta1), beta2 * v + (1 - beta2) * g * g
        root = jnp.sqrt(v) / jnp.sqrt(bias_correction(beta2, t)) + eps
        return m / bias_correction(beta1, t) / root, m, v

    return make_optimizer(AdamState, step)


def momentum(step: jax.Array, beta: float, decay: float) -> jax.Array:
    """μₜ = β (1 - 0.96^(t·ψ) / 2) (Dozat 2016, section 3.1)."""
    return beta * (1 - 0.5 * jnp.exp(step * (decay * log(0.96))))


def momentum_product(step: jax.Array, beta: float, decay: float) -> jax.Array:
    """μ₁ μ₂ … μₜ as a function of t alone.

    With q = 0.96^ψ its logarithm is t log β + Σᵢ log(1 - qⁱ/2), and log(1 - x) = -Σₖ xᵏ/k makes that
    a sum of geometric series: -Σₖ (1 - qᵏᵗ) / (q⁻ᵏ - 1) / (k 2ᵏ). Fifty terms give double precision.
    """
    if not beta:
        return jnp.zeros_like(step)
    if not decay:
        return jnp.exp(step * log(beta / 2))
    k, rate = np.arange(1, 51), -decay * log(0.96)
    shares = jnp.asarray(1 / np.expm1(k * rate) / (k * 2.0**k), step.dtype)
    terms = jnp.expm1(jnp.asarray(-k * rate, step.dtype) * step) * shares
    return jnp.exp(step * log(beta) + terms.sum())


def _average_length(time: jax.Array, beta: float) -> jax.Array:
    """ρₜ = ρ∞ - 2t βᵗ / (1 - βᵗ) (Liu et al. 2020, section 4.2), computed without catastrophic cancellation.

    With x = -t log β it is ρ∞ + 2/log β - 2/log β (1 - x / (eˣ - 1)). For small x the term in
    parentheses is x/2 - x²/12 + x⁴/720 - …, with Bernoulli's numbers. torch computes it in double precision;
    float32 would lose four digits in the first steps.
    """
    # With beta=0 no length exceeds 5.
    rate = -log(beta) if beta else jnp.inf
    x = time * rate
    series = x / 2 - x**2 / 12 + x**4 / 720 - x**6 / 30240 + x**8 / 1209600 - x**10 / 47900160
    bracket = jnp.where(x < 0.25, series, 1 - x / jnp.expm1(x))
    return 2 / (1 - beta) - 1 - 2 / rate + 2 / rate * bracket


def _with_decay(scale: Transformation, decay: Transformation, decoupled: bool) -> Transformation:
    """Apply weight decay after a transformation if decoupled, else before it, to the gradient."""
    return optax.chain(scale, decay) if decoupled else optax.chain(decay, scale)
