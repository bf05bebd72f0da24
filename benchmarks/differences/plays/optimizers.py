"""Optimizers, clipping and averages over a few steps with given gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.optim.swa_utils import AveragedModel

from benchmarks.differences.namespaces import evaluate
from benchmarks.differences.row import Case, Code, Play

SHAPES = {"kernel": (4, 3), "bias": (3,)}
RATE = 0.01
Tree = dict[str, np.ndarray]


def _tree(random: np.random.Generator, scale: float = 1.0) -> Tree:
    return {name: scale * random.normal(size=shape) for name, shape in SHAPES.items()}


def steps(
    count: int = 12,
    scale: float = 1.0,
    scheduled: bool = False,
    falling: bool = False,
    absent: str = "",
    accumulate: int = 1,
) -> Play:
    """Make the play of an optimizer: how far it moves the parameters in `count` steps.

    The code uses `params` (torch) and `lr`, and in JAX the parameters' names, `kernel` and `bias`.

    Args:
        count: number of steps.
        scale: size of the gradients; small ones show an epsilon.
        falling: whether the gradients become smaller from step to step.
        scheduled: whether the learning rate is halved after a third of the steps.
        absent: a parameter that has no gradient: None in torch, zeros in JAX.
        accumulate: of how many gradients torch adds up each of its steps.
    """

    def played(code: Code, case: Case) -> np.ndarray:
        random = np.random.default_rng(case.seed)
        start = _tree(random)
        sizes = [scale * (0.7**step if falling else 1) for step in range(count)]
        gradients = [_tree(random, size) for size in sizes]
        factors = [0.5 if scheduled and 3 * step > count else 1.0 for step in range(count)]
        if code.framework == "torch":
            end = _torch_steps(code, start, gradients, factors, absent, accumulate)
        else:
            end = _optax_steps(code, start, gradients, factors, absent)
        return np.concatenate([(end[name] - start[name]).ravel() for name in SHAPES])

    return played


def _torch_steps(
    code: Code,
    start: Tree,
    gradients: list[Tree],
    factors: list[float],
    absent: str,
    accumulate: int,
) -> Tree:
    params = {name: torch.tensor(array, requires_grad=True) for name, array in start.items()}
    optimizer = evaluate(code, {"params": list(params.values()), "named": params, "lr": RATE})
    assert isinstance(optimizer, torch.optim.Optimizer)
    for step, (each, factor) in enumerate(zip(gradients, factors, strict=True)):
        for name in set(params) - {absent}:
            (params[name] * torch.tensor(each[name])).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] *= factor / (factors[step - 1] if step else 1)
        if (step + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return {name: array.detach().numpy() for name, array in params.items()}


def _optax_steps(
    code: Code,
    start: Tree,
    gradients: list[Tree],
    factors: list[float],
    absent: str,
) -> Tree:
    table = np.array(factors) * RATE
    scheduled = len(set(factors)) > 1
    rate = (lambda step: jnp.asarray(table)[step]) if scheduled else RATE
    transform = evaluate(code, {"lr": rate})
    assert isinstance(transform, optax.GradientTransformation)
    params = {name: jax.device_put(array) for name, array in start.items()}
    state = transform.init(params)
    update = jax.jit(transform.update)
    for each in gradients:
        native = {n: jax.device_put(0 * a if n == absent else a) for n, a in each.items()}
        updates, state = update(native, state, params)
        params = optax.apply_updates(params, updates)
    return {name: np.asarray(array) for name, array in params.items()}


def clipped(scale: float) -> Play:
    """Make the play of clipping: the gradients, of size `scale`, after it. torch's code uses `params`."""

    def played(code: Code, case: Case) -> np.ndarray:
        gradients = _tree(np.random.default_rng(case.seed), scale)
        if code.framework == "torch":
            params = [torch.zeros(shape) for shape in SHAPES.values()]
            for parameter, name in zip(params, SHAPES, strict=True):
                parameter.grad = torch.tensor(gradients[name])
            evaluate(code, {"params": params})
            return np.concatenate([parameter.grad.numpy().ravel() for parameter in params])
        transform = evaluate(code, {})
        native = jax.tree.map(jax.device_put, gradients)
        found, _ = transform.update(native, transform.init(native), native)
        return np.concatenate([np.asarray(found[name]).ravel() for name in SHAPES])

    return played


def averaged(code: Code, case: Case) -> np.ndarray:
    """Average of weights after each of eight updates; torch's code uses `model`, others `average`, `w`.

    An expression that is no transformation is the next average, from the one before it.
    """
    history = np.random.default_rng(case.seed).normal(size=(8, 5)) + 3
    if code.framework == "torch":
        model = torch.nn.Linear(5, 1, bias=False)
        average = evaluate(code, {"model": model})
        assert isinstance(average, AveragedModel)
        found = []
        for weights in history:
            with torch.no_grad():
                model.weight.copy_(torch.tensor(weights)[None])
            average.update_parameters(model)
            found.append(average.module.weight.detach().numpy().ravel().copy())
        return np.stack(found)
    names = {"average": jax.device_put(history[0]), "w": jax.device_put(history[0])}
    transform = evaluate(code, names)
    if not isinstance(transform, optax.GradientTransformation):
        found = [history[0]]
        for weights in history[1:]:
            found.append(evaluate(code, {"average": found[-1], "w": jax.device_put(weights)}))
        return np.stack(found)
    state, found = transform.init(names["w"]), []
    for weights in history:
        average, state = transform.update(jax.device_put(weights), state)
        found.append(np.asarray(average))
    return np.stack(found)
