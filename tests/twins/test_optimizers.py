"""Optimizers, clipping and schedules: the Flax side against torch.optim, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flax_impl import optimizers as flax_optimizers
from lightning_impl import optimizers as torch_optimizers
from pipeline.config import AdamConfig, AdamWConfig, CosineConfig, SGDConfig, StepConfig
from pipeline.config import WarmupCosineConfig as WarmupConfig
from pipeline.schedules import schedule

SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 3, 2, 2), "c": ()}
STEPS = 200

OPTIMIZERS = {
    "sgd": SGDConfig(lr=0.1),
    "sgd without momentum": SGDConfig(lr=0.1, momentum=0, weight_decay=0.01),
    "sgd with nesterov": SGDConfig(lr=0.1, nesterov=True, weight_decay=0.01),
    "adam": AdamConfig(lr=0.01),
    "adam with decay": AdamConfig(lr=0.01, weight_decay=0.01, betas=[0.8, 0.95], eps=1e-6),
    "adam without a first moment": AdamConfig(lr=0.01, betas=[0.0, 0.99]),
    "adamw": AdamWConfig(lr=0.01),
    "adamw with more decay": AdamWConfig(lr=0.01, weight_decay=0.3, eps=1e-4),
}


def trees(count, seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    return [
        {name: scale * random.normal(size=shape) for name, shape in SHAPES.items()}
        for _ in range(count)
    ]


def clipped(parameters, gradients, limit):
    for name, parameter in parameters.items():
        parameter.grad = torch.tensor(gradients[name], dtype=parameter.dtype)
    if limit is not None:
        torch.nn.utils.clip_grad_norm_(parameters.values(), limit)


class Torch:
    """Parameters that torch.optim updates under a schedule."""

    def __init__(self, config, factor, dtype, fused):
        (start,) = trees(1)
        self.parameters = {
            n: torch.tensor(a, dtype=dtype, requires_grad=True) for n, a in start.items()
        }
        build = torch_optimizers.OPTIMIZERS[config.name]
        self.optimizer = build(config, self.parameters.items(), fused=fused)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def step(self, gradients, limit):
        clipped(self.parameters, gradients, limit)
        self.optimizer.step()
        self.scheduler.step()
        return {name: parameter.detach().numpy() for name, parameter in self.parameters.items()}


def worst_difference(config, limit, steps, factor, dtype):
    """Largest relative difference between Flax's and torch's parameters after any of the steps."""
    references = [Torch(config, factor, getattr(torch, dtype), fused) for fused in (True, False)]
    (start,) = trees(1)
    params = {name: jnp.asarray(array, dtype) for name, array in start.items()}
    transform = flax_optimizers.build_optimizer(config, limit)
    state = transform.init(params)

    @jax.jit
    def update(gradients, state, params, lr):
        updates, state = transform.update(gradients, state, params)
        return jax.tree.map(lambda p, u: p - lr * u, params, updates), state

    worst = 0.0
    for step, gradients in enumerate(trees(steps, seed=1)):
        rate = np.asarray(config.lr * factor(step), dtype)
        arrays = {name: np.asarray(array, dtype) for name, array in gradients.items()}
        params, state = update(arrays, state, params, rate)
        for reference in references:
            for name, expected in reference.step(gradients, limit).items():
                gap = np.abs(np.asarray(params[name]) - expected).max() / np.abs(expected).max()
                worst = max(worst, float(gap))
    return worst


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("limit", [None, 1.0], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_torch_fused_or_not_under_a_schedule(name, limit):
    factor = schedule(WarmupConfig(warmup=20, final=0.1), STEPS)
    assert worst_difference(OPTIMIZERS[name], limit, STEPS, factor, "float64") < 1e-12


def test_adam_keeps_its_digits_in_float32():
    """Under a constant gradient every step is -lr, whatever the decays: g / (√g² + ε)."""
    config = AdamConfig(lr=1.0, eps=1e-30)
    transform = flax_optimizers.build_optimizer(config)
    gradient, params = jnp.array([0.3, -2.0, 1e-4], jnp.float32), jnp.zeros(3, jnp.float32)
    state, update = transform.init(params), jax.jit(transform.update)
    for _ in range(5):
        direction, state = update(gradient, state, params)
        # optax's own bias correction is off by 6e-6.
        np.testing.assert_allclose(direction, np.sign(gradient), rtol=1e-6)


@pytest.mark.parametrize(("name", "cls"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_every_setting_reaches_the_optimizer_of_torch(name, cls):
    config = {
        "sgd": SGDConfig(lr=0.3, momentum=0.7, nesterov=True, weight_decay=0.2),
        "adam": AdamConfig(lr=0.3, betas=[0.7, 0.8], eps=0.4, weight_decay=0.2),
        "adamw": AdamWConfig(lr=0.3, betas=[0.7, 0.8], eps=0.4, weight_decay=0.2),
    }[name]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch_optimizers.build_optimizer(config, [("p", parameter)])
    assert type(optimizer) is getattr(torch.optim, cls)
    wanted = {"lr": 0.3, "weight_decay": 0.2, "fused": True, "maximize": False}
    if name == "sgd":
        wanted |= {"momentum": 0.7, "nesterov": True, "dampening": 0}
    else:
        wanted |= {"betas": (0.7, 0.8), "eps": 0.4, "amsgrad": False}
    assert {key: optimizer.param_groups[0][key] for key in wanted} == wanted


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("limit", [0.1, 1.0, 50.0])
def test_clipping_is_that_of_torch_its_millionth_included(scale, limit):
    (gradients,) = trees(1, scale=scale)
    parameters = {name: torch.zeros(shape).double() for name, shape in SHAPES.items()}
    clipped(parameters, gradients, limit)
    transform = flax_optimizers.clip_by_global_norm(limit)
    found, _ = transform.update(
        {n: jnp.asarray(a) for n, a in gradients.items()}, optax.EmptyState()
    )
    for name, parameter in parameters.items():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), rtol=1e-12, atol=0)


def torch_schedule(kind, *args, warmup=0, start=1.0):
    """What torch's own schedulers make of a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = kind(optimizer, *args)
    if warmup:
        line = torch.optim.lr_scheduler.LinearLR(optimizer, start, total_iters=warmup)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [line, scheduler], [warmup])
    rates = []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


STEP_LR, COSINE_LR = torch.optim.lr_scheduler.StepLR, torch.optim.lr_scheduler.CosineAnnealingLR


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (StepConfig(every=30, gamma=0.5), (STEP_LR, 30, 0.5)),
        (StepConfig(every=0.25), (STEP_LR, 50, 0.1)),
        (CosineConfig(final=0.05), (COSINE_LR, STEPS, 0.05)),
    ],
)
def test_a_schedule_is_that_of_torch(config, expected):
    factor = schedule(config, STEPS)
    found = [factor(step) for step in range(STEPS)]
    assert found == pytest.approx(torch_schedule(*expected), rel=1e-12, abs=1e-14)


@pytest.mark.usefixtures("float64")
def test_warmup_and_cosine_are_those_of_torch_and_of_optax():
    factor = schedule(WarmupConfig(warmup=0.1, start=0.2, final=0.05), STEPS)
    found = [factor(step) for step in range(STEPS)]
    with_torch = torch_schedule(COSINE_LR, STEPS - 20, 0.05, warmup=20, start=0.2)
    assert found == pytest.approx(with_torch, rel=1e-11)
    with_optax = optax.warmup_cosine_decay_schedule(0.2, 1.0, 20, STEPS, 0.05)
    assert found == pytest.approx([float(with_optax(step)) for step in range(STEPS)], rel=1e-11)
