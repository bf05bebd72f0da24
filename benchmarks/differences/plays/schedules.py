"""Learning-rate schedules: the rate of each step."""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from benchmarks.differences.namespaces import evaluate
from benchmarks.differences.row import Case, Code, Play


def rates(steps: int) -> Play:
    """Make the play of a schedule: the rates of the first `steps` steps, from 1.0 or as the code says.

    torch's is called once after each step of the optimizer, as its documentation has it.
    """

    def played(code: Code, case: Case) -> np.ndarray:
        if code.framework != "torch":
            schedule = cast(Callable[[jax.Array], jax.Array], evaluate(code, {}))
            return np.asarray(jax.jit(jax.vmap(schedule))(np.arange(steps)))
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler = evaluate(code, {"optimizer": optimizer})
        assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
        found = []
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return np.array(found, float)

    return played


def plateau(code: Code, case: Case) -> np.ndarray:
    """Rates after each of forty losses, which fall and then only waver."""
    noise = np.random.default_rng(case.seed).normal(size=40)
    losses = np.maximum(2.0 - 0.1 * np.arange(40), 1.0) + 0.01 * noise
    if code.framework == "torch":
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        scheduler, found = evaluate(code, {"optimizer": optimizer}), []
        assert isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        for loss in losses:
            scheduler.step(loss)
            found.append(optimizer.param_groups[0]["lr"])
        return np.array(found)
    transform, found = evaluate(code, {}), []
    assert isinstance(transform, optax.GradientTransformationExtraArgs)
    update = jnp.array(1.0)
    state = transform.init(update)
    step = jax.jit(transform.update)
    for loss in losses:
        scaled, state = step(update, state, value=jnp.array(loss))
        found.append(float(scaled))
    return np.array(found)
