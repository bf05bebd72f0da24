"""Layers of linen and NNX with the weights of torch's."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from benchmarks.differences.plays.task import STATISTICS, Task
from benchmarks.differences.plays.weights import Weights, name_of, to_flax


def run_linen(module: object, weights: Weights, inputs: list[jax.Array], task: Task) -> np.ndarray:
    """Run a layer of linen."""
    assert isinstance(module, linen.Module)
    # Values that are not looked at are not drawn: each shape would be compiled.
    is_drawn = task.part.startswith("initial ")
    init = jax.jit(module.init) if is_drawn else partial(jax.eval_shape, module.init)
    variables = init(jax.random.key(0), *inputs)
    leaves, structure = jax.tree.flatten_with_path(variables.get("params", {}))
    paths = [[key.key for key in path] for path, _ in leaves]
    arrays = [array for _, array in leaves]
    if task.is_initial:
        return task.of_initial(_named(paths, arrays, task))
    filled = [to_flax(weights, path, array) for path, array in zip(paths, arrays, strict=True)]
    params = jax.tree.unflatten(structure, map(jax.device_put, filled))
    stats = {
        name: jnp.ones(like.shape) if name == "var" else jnp.zeros(like.shape)
        for name, like in variables.get("batch_stats", {}).items()
    }
    # Ours is told by the call whether it is in training, linen's by its constructor.
    is_told = "train" in inspect.signature(type(module).__call__).parameters
    for scale in task.scales:
        x = inputs[0] * scale if scale > 1 else inputs[0]
        variables = {"params": params, "batch_stats": stats}
        y, changed = _train(module, is_told, variables, x, *inputs[1:])
        stats = changed.get("batch_stats", stats)
    if task.part in STATISTICS:
        return np.asarray(stats[task.part.removeprefix("running_")])
    if task.part == "evaluation":
        settled = module if is_told else module.clone(use_running_average=True)
        y = _evaluate(settled, {"params": params, "batch_stats": stats}, *inputs)
    return np.asarray(y)


def run_nnx(module: object, weights: Weights, inputs: list[jax.Array], task: Task) -> np.ndarray:
    """Run a layer of NNX."""
    assert isinstance(module, nnx.Module)
    variables = [
        ([str(key) for key in path], variable)
        for path, variable in nnx.iter_graph(module)
        if isinstance(variable, nnx.Param | nnx.BatchStat)
    ]
    params = [(path, variable) for path, variable in variables if isinstance(variable, nnx.Param)]
    if task.is_initial:
        arrays = [variable.get_value() for _, variable in params]
        return task.of_initial(_named([path for path, _ in params], arrays, task))
    for path, variable in variables:
        if isinstance(variable, nnx.Param):
            array = to_flax(weights, path, variable.get_value())
        else:
            array = np.full(variable.get_value().shape, 1.0 if path[-1] == "var" else 0.0)
        variable.set_value(jax.device_put(array))
    for scale in task.scales:
        y = _call(module, inputs[0] * scale if scale > 1 else inputs[0], *inputs[1:])
    if task.part in STATISTICS:
        return np.asarray(getattr(module, task.part.removeprefix("running_"))[...])
    if task.part == "evaluation":
        module.set_attributes(use_running_average=True)
        y = _call(module, *inputs)
    return np.asarray(y)


def _named(paths: list[list[str]], arrays: list[jax.Array], task: Task) -> dict[str, jax.Array]:
    join = "/".join if task.part == "parameters" else name_of
    return dict(zip(map(join, paths), arrays, strict=True))


# Compiled as one program each, and once for equal layers: the seeds of a row.
@partial(jax.jit, static_argnums=(0, 1))
def _train(module: linen.Module, is_told: bool, variables: dict, *inputs: jax.Array) -> tuple:
    training = {"train": True} if is_told else {}
    return module.apply(variables, *inputs, mutable=["batch_stats"], **training)


@partial(jax.jit, static_argnums=0)
def _evaluate(module: linen.Module, variables: dict, *inputs: jax.Array) -> jax.Array:
    return module.apply(variables, *inputs)


@nnx.jit
def _call(module: nnx.Module, *inputs: jax.Array) -> jax.Array:
    return module(*inputs)
