"""Layers of Equinox with the weights of torch's, mapped over the batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.differences.plays.task import CHANNELS_FIRST, STATISTICS, Task
from benchmarks.differences.plays.weights import Weights, name_of

CELLS = (eqx.nn.LSTMCell, eqx.nn.GRUCell)
OF_VECTORS = ("Linear", "LayerNorm", "RMSNorm", "Embedding", "PReLU")  # over the last axis


def run_equinox(
    module: object, weights: Weights, inputs: list[jax.Array], task: Task
) -> np.ndarray:
    """Run a layer of Equinox."""
    assert isinstance(module, eqx.Module)
    arrays, rest = eqx.partition(module, _is_weight)
    leaves, structure = jax.tree.flatten_with_path(arrays)
    paths = [[str(getattr(key, "name", key)) for key in path] for path, _ in leaves]
    # Initial running statistics are leaves, too: they stay.
    is_own = [not path[0].endswith("_index") for path in paths]
    if task.is_initial:
        join = "/".join if task.part == "parameters" else name_of
        own = zip(paths, leaves, is_own, strict=True)
        return task.of_initial({join(p): a for p, (_, a), mine in own if mine})
    filled = [
        _carry(module, weights, path, array) if mine else array
        for path, (_, array), mine in zip(paths, leaves, is_own, strict=True)
    ]
    module = eqx.combine(jax.tree.unflatten(structure, filled), rest)
    if isinstance(module, eqx.nn.BatchNorm):
        return _batch_norm(module, inputs[0], task)
    return np.asarray(eqx.filter_jit(_apply)(module, inputs))


def _is_weight(leaf: object) -> bool:
    is_array = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _carry(module: eqx.Module, weights: Weights, path: list[str], array: jax.Array) -> jax.Array:
    carried = weights[name_of(path)]
    if isinstance(module, eqx.nn.ConvTranspose) and carried.ndim > 2:
        carried = np.flip(carried.swapaxes(0, 1), tuple(range(2, carried.ndim)))
    return jax.device_put(carried.reshape(array.shape))


def _apply(module: eqx.Module, inputs: list[jax.Array]) -> jax.Array:
    (x, *_), name = inputs, type(module).__name__
    if isinstance(module, eqx.nn.MultiheadAttention):
        return jax.vmap(module)(x, x, x)
    if isinstance(module, CELLS):
        return jax.vmap(lambda sequence: _scan(module, sequence))(x)
    if name in OF_VECTORS:
        for _ in range(x.ndim - (name != "Embedding")):
            module = jax.vmap(module)
        return module(x)
    first = name.startswith(CHANNELS_FIRST)
    y = jax.vmap(module)(jnp.moveaxis(x, -1, 1) if first else x)
    return jnp.moveaxis(y, 1, -1) if first else y


def _scan(cell: eqx.Module, sequence: jax.Array) -> jax.Array:
    zeros = jnp.zeros(cell.hidden_size)
    is_lstm = isinstance(cell, eqx.nn.LSTMCell)

    def step(carry: object, x: jax.Array) -> tuple[object, jax.Array]:
        carry = cell(x, carry)
        return carry, carry[0] if is_lstm else carry

    return jax.lax.scan(step, (zeros, zeros) if is_lstm else zeros, sequence)[1]


def _batch_norm(module: eqx.nn.BatchNorm, x: jax.Array, task: Task) -> np.ndarray:
    state = eqx.nn.State(module)
    x = jnp.moveaxis(x, -1, 1)
    for scale in task.scales:
        y, state = _over_batch(module, x * scale, state)
    if task.part in STATISTICS:
        index = module.ema_state_index if module.mode == "ema" else module.batch_state_index
        return np.asarray(state.get(index)[STATISTICS.index(task.part)])
    if task.part == "evaluation":
        y, _ = _over_batch(eqx.nn.inference_mode(module), x, state)
    return np.asarray(jnp.moveaxis(y, 1, -1))


@eqx.filter_jit
def _over_batch(module: eqx.nn.BatchNorm, x: jax.Array, state: eqx.nn.State) -> tuple:
    return jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
